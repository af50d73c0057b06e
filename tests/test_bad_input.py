"""Bad input, item by item: one clear line, the batch goes on, nothing is lost."""

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from labelkit import metrics
from labelkit.cli import cli
from labelkit.config import FormatSpec, VerifySpec
from labelkit.errors import InvalidInput
from labelkit.models import check_window, create_model
from labelkit.noise.verify import self_verify
from labelkit.workflows.importing import import_labels
from tests.conftest import TINY, write_csv, write_tone

SOUND = [(f"{n}.wav", "Low" if n % 2 else "High", int(n < 4)) for n in range(6)]
HEADER = ("fname", "label", "verified")


def call(project, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])


def import_csv(project, lines, header=HEADER):
    source = write_csv(project.root / "x.csv", header, lines)
    return call(project, "import", source, "--format", "csv", "--verified-column", "verified")


def snapshot(project):
    with project.store.read() as session:
        return session.rows("from labels_now"), session.last_batch()


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        (("fname", "tag", "verified"), SOUND, "no column 'label' in fname, tag, verified; rename"),
        (HEADER, [*SOUND, ("0.wav", "Low", 1)], "row 8: duplicate file name '0.wav', first in"),
        (HEADER, [*SOUND[:5], ("5.wav", "Low,,High", 0)], "'Low,,High' has an empty entry"),
        (HEADER, [*SOUND, ("nowhere.wav", "Low", 0)], "row 8: no recording 'nowhere.wav' in"),
    ],
    ids=["missing column", "duplicate file name", "empty entry", "missing audio file"],
)  # fmt: skip
def test_faulty_csv(tone_project, header, lines, message):
    before = snapshot(tone_project)
    done = import_csv(tone_project, lines, header)
    assert done.exit_code == 2 and message in done.stderr and "nothing was imported" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert snapshot(tone_project) == before
    assert import_csv(tone_project, SOUND).exit_code == 0


def test_all_faults_come_at_once(tone_project):
    lines = [
        ("0.wav", "Low,,High", 1),
        ("0.wav", "Low", 1),
        ("1.wav", "Low", 7),
        ("9.wav", "Low", 0),
    ]
    done = import_csv(tone_project, [*lines, ("0.wav", "Low", 0)])
    assert "4 faults" in done.stderr and len(done.stderr.strip().splitlines()) >= 5


def test_unknown_class(tone_project):
    assert import_csv(tone_project, SOUND[:4]).exit_code == 0
    before = snapshot(tone_project)
    lines = [("4.wav", "Hihg", 1), ("5.wav", "Low", 0)]
    done = import_csv(tone_project, lines)
    assert done.exit_code == 2
    assert "row 2: unknown class 'Hihg'; did you mean 'High', or import with" in done.stderr
    assert snapshot(tone_project) == before
    source = tone_project.root / "x.csv"
    done = call(tone_project, "import", source, "--format", "csv", "--add-classes")
    assert done.exit_code == 0
    with tone_project.store.read() as session:
        assert session.classes() == ["High", "Low", "Hihg"]


def spoil(kind, path):
    if kind == "unreadable":
        path.write_text("no recording but a text\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        whole = path.with_name("whole.ogg")
        noise = np.random.default_rng(0).standard_normal(120_000) * 0.2
        soundfile.write(whole, noise, 16000)
        path.write_bytes(whole.read_bytes()[:-3000])
        whole.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unreadable", "empty", "truncated"])
def test_bad_recordings_stop_nothing(tone_project, kind):
    for number in range(6, 16):
        write_tone(tone_project.audio_dir / f"{number}.wav", 300 + 400 * (number % 2) + number)
    name = "bad.ogg" if kind == "truncated" else "bad.wav"
    spoil(kind, tone_project.audio_dir / name)
    bytes_before = (tone_project.audio_dir / name).read_bytes()
    lines = [(f"{n}.wav", "Low" if n % 2 else "High", int(n < 10)) for n in range(16)]
    assert import_csv(tone_project, [*lines, (name, "Low", 1)]).exit_code == 0
    listed = json.loads(call(tone_project, "check", "--json", "--workers", "1").stdout)
    used = kind == "truncated"
    assert [(r["fault"], r["used"]) for r in listed if r["path"] == name] == [(kind, used)]
    settings = [word for setting in TINY for word in ("--set", setting)]
    call(tone_project, "folds", "--n", "2")
    done = call(tone_project, "verify", "--workers", "1", *settings)
    assert done.exit_code == 0, done.output
    assert (f"1 clips are left out: {name} ({kind})" in done.stderr) == (not used)
    with tone_project.store.read() as session:
        learnt = session.rows(
            "select count(*) from (select unnest(trained_on) as clip_id from runs) "
            f"join clips using (clip_id) where path = '{name}'"
        )
        assert (learnt[0][0] > 0) == used
        assert session.rows(f"select state from labels_now where path = '{name}'") == [
            ("verified",)
        ]
    assert (tone_project.audio_dir / name).read_bytes() == bytes_before


def test_nan_in_probabilities():
    labels, probs = np.eye(3)[[0, 1, 2]], np.full((3, 3), 1 / 3)
    probs[2, 1] = np.nan
    with pytest.raises(InvalidInput, match=r"1 NaN or infinite values, the first is nan at clip 2"):
        metrics.lwlrap(labels, probs)
    loop = self_verify(
        labels,
        np.array([True, False, True]),
        np.array([0, 1, 1]),
        lambda trusted, fold, warm_start: (probs[np.array([0, 1, 1]) == fold], None),
        options=VerifySpec(),
    )
    with pytest.raises(InvalidInput, match="the model of fold 1: probs has 1 NaN"):
        next(loop)


@pytest.mark.slow
def test_a_class_with_a_single_clip(tone_project):
    write_tone(tone_project.audio_dir / "lonely.wav", 3000)
    for number in range(6, 12):
        write_tone(tone_project.audio_dir / f"{number}.wav", 300 + 400 * (number % 2) + number)
    lines = [(f"{n}.wav", "Low" if n % 2 else "High", int(n < 8)) for n in range(12)]
    import_csv(tone_project, [*lines, ("lonely.wav", "Rare", 0)])
    done = call(tone_project, "folds", "--n", "2")
    assert done.exit_code == 0 and "Rare has 1 clip" in done.stderr
    settings = [word for setting in TINY for word in ("--set", setting)]
    done = call(tone_project, "verify", "--workers", "1", *settings)
    assert done.exit_code == 0, done.output
    with tone_project.store.read() as session:
        state = session.rows("select state from labels_now where path = 'lonely.wav'")
    # No model that may judge it has ever heard its class.
    assert state == [("unverified",)]


def test_a_project_of_a_newer_version(tone_project):
    file = tone_project.root / "labelkit.toml"
    text = file.read_text()
    file.write_text(text.replace("version = 1", "version = 2"))
    done = call(tone_project, "status")
    assert done.exit_code == 2 and "is of version 2" in done.stderr
    assert "install a newer labelkit" in done.stderr
    file.write_text(text)
    with tone_project.store.write() as session:
        session.rows("insert into schema_migrations values (99, 'future', now())")
    for args in (["status"], ["query", "select 1"], ["init", tone_project.audio_dir]):
        done = call(tone_project, *args)
        assert done.exit_code == 3 and "schema version 99" in done.stderr, args
        assert done.stderr.count("\n") == 1


def test_no_project_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["verify"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "no labelkit.toml in" in done.stderr and "labelkit init AUDIO_DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = CliRunner().invoke(cli, ["-C", str(tmp_path / "nowhere"), "status"])
    assert done.exit_code == 2 and "no labelkit.toml" in done.stderr


def test_an_empty_project_says_what_to_do(tone_project):
    done = call(tone_project, "train")
    assert done.exit_code == 2 and "labelkit import FILE" in done.stderr
    done = call(tone_project, "folds")
    assert done.exit_code == 2 and "labelkit import" in done.stderr


def test_import_of_a_file_that_is_not_there(tone_project):
    with pytest.raises(InvalidInput, match="no such file or folder"):
        import_labels(tone_project, tone_project.root / "no.csv", "csv", FormatSpec())


def test_a_broken_project_file(tone_project):
    (tone_project.root / "labelkit.toml").write_text("version = ")
    done = call(tone_project, "status")
    assert done.exit_code == 2 and "labelkit.toml is not valid" in done.stderr


def train_tiny(project, *args):
    settings = [part for text in TINY for part in ("--set", text)]
    return call(project, "train", "--workers", 1, *settings, *args)


def test_unknown_recipe(tone_project):
    import_csv(tone_project, SOUND)
    done = call(tone_project, "train", "--recipe", "nineth")
    assert done.exit_code == 2 and "no recipe called 'nineth'; did you mean 'ninth'" in done.stderr


def test_unknown_key_in_a_recipe(tone_project):
    import_csv(tone_project, SOUND)
    recipe = tone_project.root / "mine.toml"
    recipe.write_text("[stages.one]\nepocs = 3\n")
    done = call(tone_project, "train", "--recipe", recipe)
    assert done.exit_code == 2
    assert "no setting stages.one.epocs; did you mean 'epochs'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("pad", ["wrap", "constant", "either"])
def test_a_clip_shorter_than_a_window_is_used(tone_project, pad):
    write_tone(tone_project.audio_dir / "5.wav", 500, seconds=0.3)
    import_csv(tone_project, SOUND)
    done = call(tone_project, "check", "--set", "input.frames=48", "--json")
    short = [row for row in json.loads(done.stdout) if row["fault"] == "short"]
    assert [row["path"] for row in short if row["used"]][-1] == "5.wav"
    call(tone_project, "folds", "--n", 2)
    done = train_tiny(tone_project, "--set", f"input.pad={pad}", "--set", "inference.windows=tiles")
    assert done.exit_code == 0, done.output
    with tone_project.store.read() as session:
        judged = session.rows(
            "select count(*) from predictions p join clips c using (clip_id) "
            "where c.path = '5.wav' and isfinite(list_sum(p.probs))"
        )
    assert judged == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["model.name=vgg_gap", "input.frames=64"],
            "16 bands x 64 frames is too small for vgg_gap",
        ),
        (["input.frames=8"], "a window of 16 bands x 8 frames is too small for dense_m1"),
        (["input.frames=20000"], "input.frames must be from 1 to 10000, got 20000"),
    ],
)
def test_a_window_the_network_cannot_pool(tone_project, settings, message):
    import_csv(tone_project, SOUND)
    call(tone_project, "folds", "--n", 2)
    before = snapshot(tone_project)
    done = train_tiny(tone_project, *(part for text in settings for part in ("--set", text)))
    assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert snapshot(tone_project) == before


@pytest.mark.slow
def test_a_window_longer_than_memory_allows(monkeypatch):
    def no_memory(self, x):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    model = create_model("dense_m1", 3, width=4)
    monkeypatch.setattr(type(model), "forward", no_memory)
    with pytest.raises(InvalidInput, match="too long"):
        check_window(model, "dense_m1", 1, 64, 10_000)


@pytest.mark.slow
def test_models_of_another_class_list_are_refused(tone_project):
    import_csv(tone_project, SOUND)
    call(tone_project, "folds", "--n", 2)
    assert train_tiny(tone_project).exit_code == 0
    with tone_project.store.read() as session:
        first = session.last_run()
    write_tone(tone_project.audio_dir / "new.wav", 900)
    source = write_csv(tone_project.root / "y.csv", HEADER, [("new.wav", "Middle", 1)])
    done = call(
        tone_project, "import", source, "--format", "csv", "--verified-column", "verified",
        "--add-classes",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    before = snapshot(tone_project)
    done = train_tiny(tone_project, "--start", first)
    # Only the newcomer's fold is new.
    assert done.exit_code == 2 and snapshot(tone_project)[0] == before[0]
    assert "was trained on 2 classes, the project has 3: they differ in Middle" in done.stderr


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_and_names_the_clips(tone_project):
    import_csv(tone_project, SOUND)
    call(tone_project, "folds", "--n", 2)
    before = snapshot(tone_project)
    done = train_tiny(tone_project, "--set", "lr=1e30", "--set", "schedule=constant")
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    assert "batch 1 is not finite; its clips: " in done.stderr and ".wav" in done.stderr
    assert snapshot(tone_project) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verified", "message"),
    [
        (1, "stage model_1 of bouteillon learns from unverified clips, and there are none"),
        (0, "stage model_2 of bouteillon learns from verified clips, and there are none"),
    ],
)
def test_a_stage_without_clips_is_named_before_the_first_training(tone_project, verified, message):
    import_csv(tone_project, [(name, label, verified) for name, label, _ in SOUND])
    done = call(tone_project, "train", "--recipe", "bouteillon", "--workers", 1)
    assert done.exit_code == 2 and message in done.stderr
    assert not list(tone_project.runs.glob("train-*/*"))
