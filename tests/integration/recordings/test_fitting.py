"""What recipes leave to the recordings is chosen once, told, kept, and changed on purpose alone."""

import errno
import json
import re
import tomllib

import pytest

from labelkit.config import AUTO, FeatureSpec, find_words, read_recipe, recipe_from_dict
from labelkit.errors import InvalidInput
from labelkit.project import FILE, create_project, keep_fitted, open_project
from labelkit.recordings import fitting
from labelkit.recordings.features import compute_features
from labelkit.recordings.fitting import FORMER, measure, settle, settle_recipe
from labelkit.stores.arrays import FeatureStore
from tests.support.clips import write_csv, write_tone
from tests.support.commands import call, refused, rows
from tests.support.projects import copy_project

QUICK, PROBE = read_recipe("quick"), read_recipe("probe")


def make_project(root, lengths_s, rate=16000, name="a"):
    """A project on tones of such lengths, imported."""
    (root / "audio").mkdir(parents=True, exist_ok=True)
    project, _ = create_project(root, root / "audio")
    bring(project, lengths_s, rate, name)
    return open_project(root)


def bring(project, lengths_s, rate, name, *words):
    """Write tones of two classes and import them; what was said."""
    found = []
    for number, seconds in enumerate(lengths_s):
        clip = f"{name}{number}.wav"
        write_tone(project.audio_dir / clip, 300 + 400 * (number % 2) + number, seconds, rate)
        found.append((clip, "ab"[number % 2]))
    file = write_csv(project.root / f"{name}.csv", ["fname", "label"], found)
    done = call(project, "import", file, "--format", "csv", *words)
    assert done.exit_code == 0, done.output
    return done.stderr


def table(project):
    return tomllib.loads((project.root / FILE).read_text())["fitted"]


@pytest.fixture(scope="module")
def words_project(tmp_path_factory):
    """Eight one-second tones at 16 kHz; only ever read."""
    return make_project(tmp_path_factory.mktemp("words") / "p", [1.0] * 8)


@pytest.fixture
def project(words_project, tmp_path):
    """A copy of it to write to."""
    return copy_project(words_project, tmp_path / "p")


@pytest.mark.parametrize(
    "words",
    [
        ["features"], ["features", "--recipe", "probe"], ["embed"], ["check"], ["duplicates"],
        ["similar", "a0.wav"], ["train", "--recipe", "probe"], ["check", "--fast"],
    ],
)  # fmt: skip
def test_what_first_computes_chooses_tells_and_keeps_it(project, words):
    before = (project.root / FILE).read_text()
    first = call(project, *words)
    assert first.exit_code == 0, first.output
    told = [line for line in first.stderr.splitlines() if line.startswith("features: 16000 Hz")]
    assert told == [
        "features: 16000 Hz, window 46.9 ms, hop 10 ms, from 8 recordings of 1 s; "
        "kept in labelkit.toml"
    ]
    after = (project.root / FILE).read_text()
    assert after.startswith(before.rstrip("\n"))
    assert table(project) == {
        "sample_rate": 16000, "n_fft": 750, "hop_length": 160, "coarse_n_fft": 750,
        "coarse_hop_length": 320, "min_s": 0.047, "frames": 51, "recordings": 8, "length_s": 1.0,
    }  # fmt: skip
    facts = json.loads(call(project, "status", "--json").stdout)
    assert {"what": "features", "value": told[0].removeprefix("features: ").split(";")[0]} in facts
    # Once and for all.
    assert "16000 Hz" not in call(project, "features").stderr
    assert (project.root / FILE).read_text() == after


def test_what_nobody_computes_by_is_not_chosen(project):
    before = (project.root / FILE).read_text()
    for words in (["status"], ["folds"], ["query", "from labels_now"], ["recipes", "show", "quick"],
                  ["features", *numbers()]):  # fmt: skip
        assert call(project, *words).exit_code == 0, words
    assert (project.root / FILE).read_text() == before


def numbers():
    settings = {"sample_rate": 8000, "min_s": 0, "n_fft": 512, "hop_length": 100}
    return [
        part for key, value in settings.items() for part in ("--set", f"features.{key}={value}")
    ]


def test_a_later_import_is_told_computes_nothing_anew_and_renames_no_run(project):
    assert call(project, "train", "--recipe", "probe").exit_code == 0
    kept = (project.root / FILE).read_text()
    folders = {folder.name for folder in project.features.iterdir()}
    said = bring(project, [0.4] * 2, 8000, "b")
    [line] = [line for line in said.splitlines() if "--refit" in line]
    assert "2 recordings would have 8000 Hz for 0.4 s" in line
    assert "the project has 16000 Hz for 1 s, which stays" in line
    # Of these alone, however few of all they are.
    assert "--refit" not in bring(project, [1.1], 16000, "c")
    again = call(project, "train", "--recipe", "probe")
    assert again.exit_code == 0
    assert {folder.name for folder in project.features.iterdir()} == folders
    assert (project.root / FILE).read_text() == kept
    settings = [
        json.loads(text)["features"]
        for (text,) in rows(project, "select settings from runs where kind = 'train'")
    ]
    assert len(settings) >= 2 and all(one == settings[0] for one in settings)


@pytest.mark.parametrize(
    ("lengths_s", "rate", "told"),
    [([1.0], 16000, False), ([1.3], 16000, False), ([1.0], 44100, True), ([2.0], 16000, True),
     ([0.5], 16000, True), ([1.0], 8000, True)],
)  # fmt: skip
def test_an_import_of_the_same_kind_says_nothing(project, lengths_s, rate, told):
    call(project, "features")
    said = bring(open_project(project.root), lengths_s * 4, rate, "b")
    assert ("labelkit features --refit" in said) is told
    assert "--refit" not in bring(open_project(project.root), [1.0], 16000, "d", "--dry-run")


def test_check_tells_when_another_choice_would_be_made(project):
    call(project, "features")
    for number in range(3):
        bring(open_project(project.root), [0.3] * 8, 8000, "xyz"[number])
    done = call(project, "check", "--fast")
    assert done.exit_code == 0
    assert done.stderr.count("labelkit features --refit") == 1, done.stderr


def test_refit_chooses_anew_on_purpose(project):
    call(project, "features")
    file = project.root / FILE
    file.write_text("# Mine.\n" + file.read_text() + "\n")
    bring(open_project(project.root), [0.25] * 40, 8000, "b")
    done = call(project, "features", "--refit")
    assert done.exit_code == 0, done.output
    assert "features: 8000 Hz" in done.stderr and "from 48 recordings of 0.25 s" in done.stderr
    assert table(project)["sample_rate"] == 8000
    assert file.read_text().startswith("# Mine.\nversion = 1\n")
    assert file.read_text().count("fitted =") == file.read_text().count("# Chosen by") == 1
    past = call(project, "features", "--refit", "--as-of", "1")
    assert past.exit_code == 2 and "leave --as-of out" in past.stderr


def test_without_the_table_it_is_chosen_anew(project):
    call(project, "features")
    file = project.root / FILE
    file.write_text(file.read_text().partition("# Chosen")[0])
    bring(open_project(project.root), [0.25] * 40, 8000, "b")
    assert call(project, "features").exit_code == 0
    assert table(project)["sample_rate"] == 8000


def test_a_look_back_chooses_by_what_was_and_keeps_nothing(project):
    before = (project.root / FILE).read_text()
    bring(project, [0.25] * 40, 8000, "b")
    done = call(project, "check", "--fast", "--as-of", "1")
    assert done.exit_code == 0 and "features: 16000 Hz" in done.stderr
    assert (project.root / FILE).read_text() == before
    # Unless there is a choice: then that one counts for the past, too.
    call(project, "features")
    done = call(project, "check", "--fast", "--as-of", "1")
    assert "features:" not in done.stderr


def test_where_the_file_cannot_be_written_the_work_goes_on(project, monkeypatch, capsys):
    def full(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(fitting, "keep_fitted", full)
    before = (project.root / FILE).read_text()
    spec = settle(project, PROBE.features)
    assert spec.sample_rate == 16000
    assert "cannot be written (Read-only file system), so it is not kept" in capsys.readouterr().err
    assert settle(project, PROBE.features) == spec and not capsys.readouterr().err
    assert (project.root / FILE).read_text() == before
    with pytest.raises(InvalidInput, match="nothing is chosen anew"):
        fitting.refit(project)


def test_runs_hold_numbers_and_can_be_read_again(project):
    assert call(project, "train", "--recipe", "probe", "--set", "features.hop_length=coarse")
    [settings] = rows(project, "select settings from runs where recipe = 'probe' limit 1")[0]
    tables = json.loads(settings)
    assert AUTO not in json.dumps({key: tables[key] for key in ("features", "input")})
    assert tables["features"]["hop_length"] == 320
    known = {key: tables[key] for key in ("features", "embedding", "probe")}
    recipe = recipe_from_dict({**known, "name": "probe"})
    assert settle_recipe(project, recipe) == recipe


def test_a_project_of_before_keeps_what_it_computed_by(project):
    spec = FORMER.settle(FeatureSpec(n_fft=2048, hop_length=1000, n_mels=32))
    compute_features(project, spec, workers=1)
    done = call(project, "features")
    assert "features: 32000 Hz" in done.stderr and "as before" in done.stderr
    assert [folder.name for folder in project.features.iterdir() if folder.is_dir()] == [
        FeatureStore(project.features, spec).folder.name
    ]
    assert settle(open_project(project.root), QUICK.features) == spec
    assert "to choose anew" not in bring(open_project(project.root), [0.2], 8000, "b")
    assert "features: 16000 Hz" in call(project, "features", "--refit").stderr


def test_nothing_is_chosen_for_good_without_recordings(tmp_path):
    (tmp_path / "audio").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "audio")
    assert call(project, "features").exit_code == 0
    file = write_csv(tmp_path / "l.csv", ["fname", "label"], [("a.wav", "x"), ("b.wav", "y")])
    assert call(project, "import", file, "--format", "csv", "--metadata-only").exit_code == 0
    assert call(project, "features").exit_code == 0
    assert "fitted" not in (tmp_path / FILE).read_text()
    refused(call(project, "features", "--refit"), "no recording can be read", code=1)
    (tmp_path / "audio/a.wav").write_bytes(b"no sound")
    write_tone(tmp_path / "audio/b.wav", 300, 0.5, 8000)
    # Metadata alone has no lengths: they are looked at now.
    assert "8000 Hz" in call(project, "features").stderr
    assert table(project)["length_s"] == 0.5


@pytest.mark.parametrize(
    ("before", "holds"),
    [
        ('fitted = {sample_rate = 1}\naudio = "a"\nmax_missing = 0.5', "max_missing = 0.5"),
        ('version = 1\naudio = "a"\n', "audio"),
        ('# Ours.\nversion = 1\naudio = "a"  # There.\nmax_missing = 0.2', "# There."),
        ('audio = "a"\r\nversion = 1\r\n', "version"),
    ],
)
def test_all_else_in_the_file_stays(tmp_path, before, holds):
    (tmp_path / "a").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "a")
    real = tmp_path / "elsewhere.toml"
    (tmp_path / FILE).rename(real)
    (tmp_path / FILE).symlink_to(real)
    real.write_text(before)
    for sample_rate in (8000, 16000):
        fitted = fitting.fit_features([sample_rate], [1.0])
        keep_fitted(project, fitted)
        text = real.read_text()
        assert holds in text and text.count("fitted =") == 1
        assert open_project(tmp_path).fitted == fitted
    assert (tmp_path / FILE).is_symlink()


@pytest.mark.parametrize(
    ("name", "value"),
    [("sample_rate", "0"), ("sample_rate", '"auto"'), ("n_fft", "1.5"), ("hop_length", "true"),
     ("frames", "-3"), ("min_s", "nan"), ("length_s", "nan"), ("spare", "1"), ("recordings", None)],
)  # fmt: skip
def test_a_table_that_was_spoilt_is_refused_with_the_remedy(project, name, value):
    call(project, "features")
    file = project.root / FILE
    text = file.read_text()
    [was] = re.findall(rf"(?<=[{{ ]){name if name != 'spare' else 'frames'} = [0-9.]+", text)
    said = f"{name} = {value}" if value else "misspelt = 1"
    file.write_text(text.replace(was, f"{was}, {said}" if name == "spare" else said))
    refused(call(project, "status"), "labelkit.toml is not valid", "take fitted away")


@pytest.mark.parametrize("name", ["argus", "dorfer", "bouteillon", "ninth", "argus/corr_noisy_003"])
@pytest.mark.parametrize("key", ["features.sample_rate", "features.min_s", "input.frames"])
def test_published_recipes_leave_nothing_to_the_recordings(name, key):
    recipe = read_recipe(name)
    assert not find_words(recipe.features) and not find_words(recipe.input)
    with pytest.raises(InvalidInput, match=f"{key} is auto, and recipe"):
        read_recipe(name, [f"{key}=auto"])


@pytest.mark.parametrize(
    "key", ["features.n_mels", "features.fmin_hz", "input.deltas", "model.width"]
)
def test_no_other_setting_takes_the_word(key):
    with pytest.raises(InvalidInput, match="must be"):
        read_recipe("quick", [f"{key}=auto"])


def test_a_recipe_of_ones_own_may_say_it(project, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[features]\nhop_length = "auto"\n[input]\nframes = "auto"\n[stages.a]\n')
    recipe = settle_recipe(project, read_recipe(str(file)))
    # Half as far apart as coarse frames, so twice as many.
    assert (recipe.features.hop_length, recipe.input.frames) == (320, 102)
    assert recipe.features.sample_rate == 32000


def test_recipe_show_says_the_word():
    found = {row.key: row.value for row in _explain("quick")}
    assert found["features.sample_rate"] == found["input.frames"] == AUTO
    assert found["features.hop_length"] == "coarse"


def _explain(name):
    from labelkit.config import explain_recipe

    return explain_recipe(name)[1]


def test_rates_are_read_of_a_sample_of_many(project, monkeypatch):
    monkeypatch.setattr(fitting, "_READ", 3)
    found = measure(project)
    assert (found.recordings, found.sample_rate, found.length_s) == (8, 16000, 1.0)


@pytest.mark.parametrize(
    ("lengths_s", "rate"), [([0.5] * 20, 8000), ([0.05] * 6, 32000), ([3.0] * 2, 4000)]
)
def test_few_and_short_clips_are_fitted(tmp_path, lengths_s, rate):
    project = make_project(tmp_path / "p", lengths_s, rate)
    quick = settle_recipe(project, QUICK)
    store = compute_features(project, quick.features, workers=1)
    lengths = [entry.length for entry in store.entries.values()]
    assert quick.features.sample_rate == rate
    assert len(lengths) == len(lengths_s) and min(lengths) > 0
    # Not one is blown up by silence.
    assert max(lengths) <= max(quick.input.frames, 1 + lengths_s[0] * 1000 / 24)
