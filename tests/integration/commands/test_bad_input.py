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
from labelkit.labels.importing import import_labels
from labelkit.models import check_window, create_model
from labelkit.noise.verify import self_verify
from tests.support.clips import write_csv, write_tone
from tests.support.commands import refused
from tests.support.labelled import PATHS, judge, make_labelled, write_probs
from tests.support.projects import TINY

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
        (HEADER, [*SOUND, ("0.wav", "Low", 0)], "row 8: duplicate file name '0.wav', first in"),
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
    listed = json.loads(call(tone_project, "check", "--fast", "--json", "--workers", 1).stdout)
    used = kind == "truncated"
    found = [(r["issue"], r["used"]) for r in listed if r["path"] == name]
    # The truncated one is noise among tones, which is an issue of its own.
    assert [issue for issue in found if issue[0] != "outlier"] == [(kind, used)]
    settings = [word for setting in TINY for word in ("--set", setting)]
    call(tone_project, "folds", "--n", "2")
    done = call(tone_project, "verify", "--workers", "1", *settings)
    assert done.exit_code == 0, done.output
    assert (f"are left out: 1 {kind} ({name} say)" in done.stderr) == (not used)
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
    assert done.exit_code == 1 and "labelkit import FILE" in done.stderr
    done = call(tone_project, "folds")
    assert done.exit_code == 1 and "labelkit import" in done.stderr


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
    done = call(tone_project, "check", "--set", "input.frames=48", "--json", "--workers", 1)
    short = [row for row in json.loads(done.stdout) if row["issue"] == "short"]
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


# Few bands and frames for the embeddings that the default score reads.
FEW = [word for text in TINY if text.startswith("features.") for word in ("--set", text)]


def write_sure(project, names, sure=0.9):
    """Probabilities of a model that is sure of every label of the project."""
    with project.store.read() as session:
        given = session.rows("select path, labels[1] from labels_now order by path")
    probs = [[sure if name == label else (1 - sure) / (len(names) - 1) for name in names]
             for _, label in given]  # fmt: skip
    return write_probs(project.root / "p.csv", np.array(probs), [p for p, _ in given], names)


def test_classes_too_rare_for_the_folds(tone_project):
    write_tone(tone_project.audio_dir / "lonely.wav", 3000)
    import_csv(tone_project, [*SOUND, ("lonely.wav", "Rare", 0)])
    done = call(tone_project, "folds", "--n", 2)
    assert "class Rare has 1 clip, fewer than 2 folds: it is judged poorly" in done.stderr
    file = write_sure(tone_project, ["High", "Low", "Rare"])
    done = call(tone_project, "score", "--probs", file, "--workers", 1, *FEW, "--json")
    assert done.exit_code == 0, done.output
    assert "classes that have one clip: Rare; who judges them never heard them" in done.stderr
    found = {row["path"]: row["fusion"] for row in json.loads(done.stdout)}
    assert len(found) == 7 and min(found, key=found.get) == "lonely.wav"
    done = call(tone_project, "folds", "--n", 8)
    refused(done, "fold set 8-seed0: 7 groups cannot fill 8 folds; more clips are needed, or fewer")


def test_no_more_folds_than_an_import_reads(tone_project):
    import_csv(tone_project, SOUND)
    done = call(tone_project, "folds", "--n", 10_001)
    assert done.exit_code == 2 and "10001 is not in the range 2<=x<=10000" in done.stderr
    # The most there may be are only too many for these clips.
    refused(call(tone_project, "folds", "--n", 10_000), "6 groups cannot fill 10000 folds")
    header = ("fname", "label", "fold")
    source = write_csv(tone_project.root / "f.csv", header, [("9.wav", "Low", 9999)])
    args = ("import", source, "--format", "csv", "--fold-column", "fold", "--metadata-only")
    assert call(tone_project, *args).exit_code == 0
    write_csv(source, header, [("10.wav", "Low", 10_000)])
    done = call(tone_project, *args)
    assert done.exit_code == 2 and "give a whole number from 0 to 9999" in done.stderr


@pytest.mark.slow
def test_a_class_with_no_verified_clip(tone_project):
    for number in range(6, 12):
        write_tone(tone_project.audio_dir / f"{number}.wav", 300 + 400 * (number % 2) + number)
    sound = [(f"{n}.wav", "Low" if n % 2 else "High", int(n % 2 == 0)) for n in range(12)]
    import_csv(tone_project, sound)
    call(tone_project, "folds", "--n", 2)
    settings = [part for text in TINY for part in ("--set", text)]
    done = call(tone_project, "verify", "--workers", 1, *settings)
    assert done.exit_code == 0, done.output
    with tone_project.store.read() as session:
        states = dict(session.rows("select path, state from labels_now"))
    assert {states[name] for name, label, _ in sound if label == "High"} == {"verified"}
    assert {states[name] for name, label, _ in sound if label == "Low"} <= {
        "unverified", "self_verified"
    }  # fmt: skip
    done = call(tone_project, "score", "--workers", 1, *FEW, "--json")
    assert done.exit_code == 0 and len(json.loads(done.stdout)) == 12, done.output


@pytest.mark.slow
def test_all_clips_of_a_class_in_one_group(tone_project):
    header = ("fname", "label", "verified", "source")
    sound = [*SOUND, *((f"{n}.wav", "Top", n % 2) for n in range(6, 10))]
    for number in range(6, 10):
        write_tone(tone_project.audio_dir / f"{number}.wav", 2000 + 20 * number)
    lines = [(name, label, ok, "radio" if label == "Low" else name) for name, label, ok in sound]
    source = write_csv(tone_project.root / "x.csv", header, lines)
    done = call(tone_project, "import", source, "--format", "csv", "--verified-column", "verified",
                "--group-column", "source")  # fmt: skip
    assert done.exit_code == 0, done.output
    call(tone_project, "folds", "--n", 2)
    assert train_tiny(tone_project, "--set", "pretrain.epochs=1").exit_code == 0
    for command in (["score", "--method", "lwlrap"], ["classes"], ["missing", *FEW],
                    ["select", "--rule", "lwlrap", "--dry-run"]):  # fmt: skip
        done = call(tone_project, *command)
        assert done.exit_code == 0, done.output
        assert "classes that lie in one fold: Low; who judges them never heard them" in done.stderr
    # Neighbours of the same source vouch for nobody, so there is none of the same label.
    done = call(tone_project, "score", "--method", "neighbours", "--workers", 1, *FEW, "--json")
    found = {row["path"]: row["neighbours"] for row in json.loads(done.stdout)}
    assert all((found[name] < 0.5) == (label == "Low") for name, label, _ in sound)


def test_probabilities_of_unknown_clips(tmp_path):
    project = make_labelled(tmp_path / "p")
    before = snapshot(project)
    file = write_probs(tmp_path / "p.csv", paths=[f"clips/{path}" for path in PATHS])
    for command in (["score"], ["missing"], ["classes"], ["select", "--rule", "lwlrap"]):
        done = call(project, *command, "--probs", file)
        refused(done, "46 of 46 paths are no clips of the project, 'clips/00.wav' is the first")
    assert snapshot(project) == before


def test_probabilities_in_the_wrong_class_order(tmp_path):
    project = make_labelled(tmp_path / "p")
    before = snapshot(project)
    file = write_probs(tmp_path / "p.npy", judge()[:, [3, 0, 1, 2]])
    for command in (["score"], ["missing"], ["classes"], ["select", "--rule", "lwlrap"]):
        done = call(project, *command, "--probs", file)
        refused(done, "4 columns fit others better; is the class order another? give a CSV")
    assert snapshot(project) == before


def test_constant_scores(tmp_path):
    project = make_labelled(tmp_path / "p")
    file = write_probs(tmp_path / "p.csv", np.full((len(PATHS), 4), 0.25))
    alike = "judges all 40 clips alike: it tells none from another"
    done = call(project, "score", "--probs", file, "--method", "self_confidence", "--json")
    assert done.exit_code == 0 and alike in done.stderr
    assert "score self_confidence is 0.25 for all 40 clips: it orders nothing" in done.stderr
    assert {row["self_confidence"] for row in json.loads(done.stdout)} == {0.25}
    for command, message in (
        (["score", "--method", "mixture"], "score mixture: all scores are equal, nothing to part"),
        (["select", "--rule", "mixture"], "so nothing can be selected by it; take another run"),
    ):
        done = call(project, *command, "--probs", file)
        assert done.exit_code == 2 and done.stdout == "" and alike in done.stderr
        assert message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    done = call(project, "missing", "--probs", file, "--percentile", 50)
    assert done.exit_code == 0 and "proposed: 0" in done.stderr and alike in done.stderr
    done = call(project, "classes", "--probs", file, "--json")
    assert done.exit_code == 0 and len(json.loads(done.stdout)) == 4


def test_fewer_clips_than_neighbours(tone_project):
    import_csv(tone_project, SOUND)
    file = write_sure(tone_project, ["High", "Low"])
    for method in ("neighbour_vote", "typicality"):
        done = call(tone_project, "score", "--probs", file, "--method", method, *FEW)
        assert done.exit_code == 2 and done.stdout == "" and "Traceback" not in done.stderr
        message = f"score {method}: find_neighbours: 10 neighbours asked of 6 clips; take a lower k"
        assert message in done.stderr.splitlines()[-1]
    done = call(tone_project, "score", "--probs", file, "--method", "neighbours", *FEW)
    assert done.exit_code == 0, done.output


def test_a_recording_without_an_embedding_is_told_and_not_scored_by_it(tone_project):
    (tone_project.audio_dir / "bad.wav").write_text("no recording but a text\n" * 100)
    import_csv(tone_project, [*SOUND, ("bad.wav", "Low", 0)])
    call(tone_project, "folds", "--n", 2)
    file = write_sure(tone_project, ["High", "Low"])
    done = call(tone_project, "score", "--probs", file, "--workers", 1, *FEW, "--json")
    assert done.exit_code == 0, done.output
    assert "1 clips have no embedding and are not scored by it" in done.stderr
    assert "bad.wav" not in {row["path"] for row in json.loads(done.stdout)}
    with tone_project.store.read() as session:
        queue = session.rows("select path, fusion is null from review_queue")
    assert ("bad.wav", True) in queue and queue[-1][0] == "bad.wav"
