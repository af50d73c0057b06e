"""What the network gets is looked at, and what could not be read once is read again."""

import os
import shutil

import numpy as np
import pytest
import soundfile

from labelkit.audio import faults, io
from labelkit.config import FormatSpec, read_recipe
from labelkit.errors import RecordingsGone
from labelkit.labels.importing import import_labels
from labelkit.project import FILE, create_project, open_project
from labelkit.recordings import checking
from labelkit.recordings import features as extraction
from labelkit.recordings.features import compute_features
from labelkit.recordings.fitting import settle
from labelkit.recordings.usable import unusable
from labelkit.runs.train import train
from labelkit.stores.arrays import FeatureStore
from tests.support.clips import write_csv
from tests.support.commands import call, rows
from tests.support.disks import small_disk
from tests.support.dying import Dying

RATE, SECONDS = 16000, 3
RECIPE = read_recipe("quick", ["epochs=1", "model.width=8", "input.frames=16"])


def noise(seed=0, level=0.2, channels=1, seconds=SECONDS):
    rng = np.random.default_rng(seed)
    return level * rng.standard_normal((int(seconds * RATE), channels)).astype(np.float32)


def tone(hz, level=0.3):
    t = np.arange(SECONDS * RATE) / RATE
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)[:, None]


def spiked(n, value=1e8, level=0.2):
    samples = noise(level=level)
    samples[np.linspace(1000, len(samples) - 1000, n).astype(int)] = value
    return samples


def with_click(samples, n, level=1.0, rest=0.001):
    samples = rest * samples
    samples[20000 : 20000 + n] = level * noise(3)[:n]
    return samples.astype(np.float32)


X = noise()
SOUNDS = {
    # What keeps a recording out.
    "inverted": (np.hstack([X, -X]), "cancelled", False),
    "inverted, 24 bit": (np.hstack([X, -X]), "cancelled", False, "PCM_24"),
    "inverted, a little fainter": (np.hstack([X, -0.99 * X]), "cancelled", False),
    "two of four inverted": (np.hstack([X, -X, X, -X]), "cancelled", False),
    "inverted tone": (np.hstack([tone(400), -tone(400)]), "cancelled", False),
    "one damaged sample": (spiked(1), "spike", False),
    "five damaged samples": (spiked(5, 1e6), "spike", False),
    "a full-scale spike in faint sound": (spiked(1, 1.0, 1e-4), "spike", False),
    "a negative spike": (spiked(2, -3e7), "spike", False),
    "units of 1e18": (X * np.float32(1e18), "wild", False),
    "units of 1e30": (X * np.float32(1e30), "wild", False),
    "silence": (np.zeros((RATE, 1), np.float32), "silent", False),
    "silence in stereo": (np.zeros((RATE, 2), np.float32), "silent", False),
    "an offset": (np.full((RATE, 1), 0.5, np.float32), "silent", False),
    "below 16 bits": (X * np.float32(1e-5), "silent", False),
    # What is told, and used.
    "units of 16 bits": (X * 32768, "scale", True),
    "units of 8000": (tone(200, 8000), "scale", True),
    "units of 24 bits": (X * np.float32(2**23), "scale", True),
    "no numbers": (np.where(np.arange(len(X))[:, None] % 999, X, np.nan), "no_numbers", True),
    "infinite samples": (np.where(np.arange(len(X))[:, None] % 999, X, np.inf), "no_numbers", True),
    "one that is no number": (np.where(np.arange(len(X))[:, None] == 5, np.nan, X), "no_numbers",
                              True),
    "clipped": (np.clip(5 * X, -1, 1), "clipped", True),
    "clipped, 16 bit": (np.clip(5 * X, -1, 1), "clipped", True, "PCM_16"),
    "clipped at 0.5 and made louder": (4 * np.clip(5 * X, -0.5, 0.5), "clipped", True),
    # What is neither.
    "above full scale": (tone(200, 2.5), None, True),
    "above full scale, low": (tone(20, 2.5), None, True),
    "noise above full scale": (8 * X, None, True),
    "faint": (tone(300, 7e-5), None, True),
    "faint noise": (noise(level=1e-4), None, True),
    "faint, 24 bit": (tone(300, 1e-4), None, True, "PCM_24"),
    "one channel silent": (np.hstack([X, 0 * X]), None, True),
    "one channel late": (np.hstack([X, np.roll(X, 40)]), None, True),
    "one channel far louder": (np.hstack([X, -0.05 * X]), None, True),
    "a click of 5 ms": (with_click(noise(), 80), None, True),
    "a click in silence": (with_click(0 * noise(), 400), None, True),
    "a damaged part of 1.3 ms": (with_click(noise(), 20, 1e6, 1.0), "moment", False),
    "a damaged part of 2 ms": (with_click(noise(), 32, 1e4, 1.0), "moment", False),
    "silence but for what is no number": (
        np.where(np.arange(RATE)[:, None] % 999, 0, np.nan).astype(np.float32), "silent", False),
    "inverted, with an offset": (np.hstack([X + 0.01, -X + 0.01]), "cancelled", False),
    "inverted, with offsets": (np.hstack([X + 0.3, -X - 0.2]), "cancelled", False),
    "inverted, and a coder's noise": (
        np.hstack([X, -X + noise(9, 0.07)]), "cancelled", False),
    "eight that have nothing in common": (
        np.hstack([noise(k) for k in range(8)]), None, True),
    "sound": (X, None, True),
}  # fmt: skip


def write(folder, name, samples, subtype="FLOAT"):
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / name, samples, RATE, subtype=subtype)


def make_project(root, files):
    project, _ = create_project(root, root / "audio")
    table = [(name, "AB"[k % 2]) for k, name in enumerate(files)]
    import_labels(project, write_csv(root / "l.csv", ("fname", "label"), table), "csv",
                  FormatSpec())  # fmt: skip
    return project


@pytest.mark.parametrize("name", SOUNDS)
def test_a_recording_is_told_for_what_it_is(tmp_path, name):
    samples, fault, used, *subtype = SOUNDS[name]
    write(tmp_path / "audio", "x.wav", samples, *subtype)
    project = make_project(tmp_path, ["x.wav"])
    told = {issue.issue: issue.used for issue in checking.check(project, RECIPE, workers=1)}
    # What stands beside the one that is asked for.
    for other in ("scale", "no_numbers") if not used else ():
        told.pop(other, None)
    assert set(told) == ({fault} if fault else set())
    assert all(value == used for value in told.values())
    store = compute_features(project, RECIPE.features, workers=1)
    with project.store.read() as session:
        left_out = unusable(store, session.labels())
    assert left_out == ({} if used else {"x.wav": fault})
    if used:
        frames = np.fromfile(store.frames_path, np.float16)
        assert np.isfinite(frames).all() and np.ptp(frames.astype(np.float32)) > 1


@pytest.mark.parametrize("setting", ["silence_db=-60", "cancelled_db=3", "spike_db=30"])
def test_thresholds_are_settings(tmp_path, setting):
    sounds = {
        "silence_db": noise(level=1e-4),
        "cancelled_db": np.hstack([X, -0.5 * X]),
        "spike_db": spiked(1, 1.0, 0.005),
    }
    key = setting.partition("=")[0]
    write(tmp_path / "audio", "x.wav", sounds[key])
    project = make_project(tmp_path, ["x.wav"])
    for settings, length in (([], 1), ([f"features.{setting}"], 0)):
        recipe = read_recipe("quick", settings)
        store = compute_features(project, recipe.features, workers=1)
        assert bool(store.entries["x.wav"].length) == bool(length)
        fault = {"silence_db": "silent", "cancelled_db": "cancelled", "spike_db": "spike"}[key]
        told = {issue.issue for issue in checking.check(project, recipe, workers=1, fast=True)}
        assert (fault in told) != bool(length)


@pytest.mark.parametrize("bad", ["units of 1e18", "inverted", "one damaged sample", "no numbers"])
def test_one_bad_file_stops_nothing(tmp_path, bad):
    names = [f"{k:02}.wav" for k in range(12)]
    for k, name in enumerate(names):
        write(tmp_path / "audio", name, tone(300 + 900 * (k % 2)) + noise(k, 0.02))
    write(tmp_path / "audio", "03.wav", SOUNDS[bad][0])
    project = make_project(tmp_path, names)
    for words in (
        ["check", "--workers", "1"],
        ["duplicates", "--workers", "1"],
        ["features", "--workers", "1"],
        ["train", "--workers", "1", "--set", "epochs=1", "--set", "model.width=8"],
    ):
        done = call(project, *words)
        assert done.exit_code == 0, done.output
    assert rows(project, "select count(*) from runs where kind = 'train'") == [(1,)]


@pytest.fixture
def sixteen(tmp_path):
    names = [f"{k:02}.wav" for k in range(16)]
    for k, name in enumerate(names):
        write(tmp_path / "audio", name, tone(300 + 900 * (k % 2)) + noise(k, 0.02))
    return make_project(tmp_path, names)


@pytest.mark.parametrize("error", [13, 5, 24, 12, 116, 23, 110, 6])
def test_what_could_not_be_read_is_read_by_the_next_run(sixteen, monkeypatch, capsys, error):
    before = io.find_streams

    def fail(path):
        if path.name == "03.wav":
            raise OSError(error, os.strerror(error))
        return before(path)

    monkeypatch.setattr(io, "find_streams", fail)
    store = compute_features(sixteen, RECIPE.features, workers=1)
    told = capsys.readouterr().err
    assert "03.wav: left out for now" in told and os.strerror(error) in told
    with sixteen.store.read() as session:
        assert unusable(store, session.labels()) == {"03.wav": "unread"}
    assert train(sixteen, RECIPE, workers=1)["run_id"]
    told = capsys.readouterr().err
    assert "trained on 15 of 16 clips; " in told and "1 unread (03.wav say)" in told
    monkeypatch.undo()
    # No file was touched.
    store = compute_features(sixteen, RECIPE.features, workers=1)
    assert all(entry.length for entry in store.entries.values()) and len(store.entries) == 16


def test_a_worker_that_dies_is_no_fault_of_the_recording(sixteen, monkeypatch):
    monkeypatch.setattr(extraction, "Extractor", Dying)
    store = compute_features(sixteen, RECIPE.features, workers=2)
    assert {p for p, entry in store.entries.items() if entry.faults} == {"05.wav"}
    assert store.entries["05.wav"].faults == ["unread"]
    monkeypatch.undo()
    assert compute_features(sixteen, RECIPE.features, workers=1).entries["05.wav"].length


@pytest.mark.parametrize("job", ["features", "train"])
def test_where_much_cannot_be_read_nothing_is_done(sixteen, monkeypatch, job):
    before = io.find_streams

    def fail(path):
        if path.name < "04.wav":
            raise OSError(13, os.strerror(13))
        return before(path)

    monkeypatch.setattr(io, "find_streams", fail)
    done = call(sixteen, job, "--workers", "1")
    assert done.exit_code == 1
    assert "4 of 16 recordings below" in done.stderr and "could not be read" in done.stderr
    assert "00.wav say" in done.stderr and os.strerror(13) in done.stderr
    assert rows(sixteen, "select count(*) from runs") == [(0,)]


@pytest.mark.alone
@pytest.mark.parametrize("workers, long", [(1, False), (2, False), (1, True)])
def test_a_full_disk_is_told_and_the_same_command_goes_on(tmp_path, workers, long):
    names = [f"{k:02}.wav" for k in range(12)]
    for k, name in enumerate(names):
        write(tmp_path / "audio", name, noise(k, seconds=8), "PCM_16")
    if long:
        write(tmp_path / "audio", "07.wav", noise(7, seconds=400), "PCM_16")
    settings = ["--set", "features.hop_length=64"]
    with small_disk(tmp_path / "disk", 80 if long else 16) as disk:
        project, _ = create_project(disk, tmp_path / "audio")
        table = write_csv(tmp_path / "l.csv", ("fname", "label"), [(name, "A") for name in names])
        import_labels(project, table, "csv", FormatSpec())
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - (2 if long else 1) * 2**20))
        done = call(project, "features", "--workers", str(workers), *settings)
        assert done.exit_code == 3
        [line] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert ".labelkit/features" in line and ": there is no room (" in line
        assert "could not be read" not in done.stderr and "Traceback" not in done.stderr
        folder = next(project.features.iterdir())
        assert not [file.name for file in folder.iterdir() if "partial" in file.name]
        # What was computed within the last second may be lost; what is named is there.
        assert (folder / "journal.jsonl").read_bytes().count(b"\n") < 12
        ballast.unlink()
        done = call(project, "features", "--workers", str(workers), *settings)
        assert done.exit_code == 0, done.output
        assert (folder / "journal.jsonl").read_bytes().count(b"\n") == 12
        found = (folder / "frames.f16").read_bytes()
        (folder / "journal.jsonl").unlink()
        assert call(project, "features", "--workers", "1", *settings).exit_code == 0
        if workers == 1:
            assert (folder / "frames.f16").read_bytes() == found
        assert len((folder / "frames.f16").read_bytes()) == len(found)


def journal(project):
    store = FeatureStore(project.features, settle(project, RECIPE.features))
    return store.entries


@pytest.mark.parametrize("job", ["features", "train", "verify"])
@pytest.mark.parametrize("gone", ["the folder", "a third", "one"])
def test_recordings_that_are_gone(sixteen, job, gone):
    audio = sixteen.audio_dir
    if gone == "the folder":
        audio.rename(audio.with_name("away"))
    for k in range({"the folder": 0, "a third": 5, "one": 1}[gone]):
        (audio / f"{k:02}.wav").unlink()
    words = [job, "--workers", "1", "--set", "epochs=1", "--set", "model.width=8"]
    done = call(sixteen, *(words[:3] if job == "features" else words))
    if gone == "one":
        # verify ends for want of verified clips.
        assert done.exit_code == (1 if job == "verify" else 0)
        if job == "train":
            assert "trained on 15 of 16 clips; of all recordings are left out: 1 missing" in (
                done.stderr
            )
        return
    wanted = "is not there" if gone == "the folder" else "is the disk mounted"
    assert done.exit_code == 1 and wanted in done.stderr
    assert rows(sixteen, "select count(*) from runs") == [(0,)] and journal(sixteen) == {}
    if gone == "the folder":
        audio.with_name("away").rename(audio)
        assert call(sixteen, *(words[:3] if job == "features" else ["features"])).exit_code == 0
        assert len(journal(sixteen)) == 16


def test_how_many_may_be_missing_is_a_setting(sixteen):
    for k in range(8):
        (sixteen.audio_dir / f"{k:02}.wav").unlink()
    with pytest.raises(RecordingsGone, match=r"8 of 16 recordings are not in .*max_missing = 1"):
        compute_features(sixteen, RECIPE.features, workers=1)
    with (sixteen.root / FILE).open("a") as file:
        file.write("max_missing = 0.5\n")
    project = open_project(sixteen.root)
    assert len(compute_features(project, RECIPE.features, workers=1).entries) == 16
    # What comes back is read.
    for k in range(8):
        write(project.audio_dir, f"{k:02}.wav", tone(500))
    again = compute_features(project, RECIPE.features, workers=1)
    assert all(entry.length for entry in again.entries.values())


def test_a_folder_that_vanishes_midway_stops_the_run(sixteen, monkeypatch):
    before, n = faults.open_recording, []

    def vanish(path):
        n.append(path)
        if len(n) == 6:
            sixteen.audio_dir.rename(sixteen.audio_dir.with_name("away"))
        return before(path)

    monkeypatch.setattr(faults, "open_recording", vanish)
    with pytest.raises(RecordingsGone):
        train(sixteen, RECIPE, workers=1)
    assert rows(sixteen, "select count(*) from runs") == [(0,)]
    monkeypatch.undo()
    # What was read before is kept.
    assert len(journal(sixteen)) == 5
    sixteen.audio_dir.with_name("away").rename(sixteen.audio_dir)
    assert train(sixteen, RECIPE, workers=1)["run_id"]


def test_a_long_recording_is_the_same_in_parts(tmp_path, monkeypatch):
    from labelkit.audio import spool

    sound = np.concatenate([noise(k, 0.1 * (k + 1), 2) for k in range(4)])
    write(tmp_path / "audio", "x.wav", sound, "PCM_16")
    project = make_project(tmp_path, ["x.wav"])
    for kind, settings in (
        ("argus", []), ("quick", []), ("dorfer", []), ("dorfer", ["features.kind=log_mel"]),
    ):  # fmt: skip
        spec = read_recipe(kind, settings).features
        whole = compute_features(project, spec, workers=1)
        expected = np.fromfile(whole.frames_path, np.float16)
        shutil.rmtree(project.features)
        monkeypatch.setattr(spool, "IN_MEMORY", 1000)
        monkeypatch.setattr(extraction, "IN_MEMORY", 1000)
        monkeypatch.setattr(extraction, "_KEPT_NUMBERS", 5000)
        monkeypatch.setattr(spool, "CHUNK", 5120)
        parts = compute_features(project, spec, workers=1)
        found = np.fromfile(parts.frames_path, np.float16)
        assert len(found) == len(expected)
        np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), atol=0.07)
        assert {file.name for file in parts.folder.iterdir()} <= {
            "frames.f16", "journal.jsonl", "journal.jsonl.lock", "journal.jsonl.queue",
            "journal.jsonl.door", "spec.json",
        }  # fmt: skip
        monkeypatch.undo()


def test_check_names_what_features_left_out(tmp_path):
    write(tmp_path / "audio", "x.wav", noise(level=2e-4))
    write(tmp_path / "audio", "y.wav", noise(1))
    project = make_project(tmp_path, ["x.wav", "y.wav"])
    floor = ["--set", "features.floor_db=-20"]
    assert call(project, "features", "--workers", "1", *floor).exit_code == 0
    for more in ([], ["--fast"]):
        done = call(project, "check", "--workers", "1", *floor, *more)
        assert "x.wav  blank" in done.stdout and "1 cannot be used" in done.stderr


def test_check_lists_what_is_missing_also_where_much_is(sixteen):
    for k in range(3):
        (sixteen.audio_dir / f"{k:02}.wav").unlink()
    done = call(sixteen, "check", "--workers", "1")
    assert done.exit_code == 0 and done.stdout.count("missing") == 3
    assert "near-duplicates and outliers are not looked for: 3 of 16" in done.stderr


@pytest.mark.parametrize("kind", ["tests.support.kinds:energies", "tests.support.kinds:scaled"])
def test_kinds_of_others_are_judged_by_what_holds_for_all(tmp_path, kind):
    write(tmp_path / "audio", "x.wav", noise(level=1e-3))
    write(tmp_path / "audio", "y.wav", noise(level=0.3))
    project = make_project(tmp_path, ["x.wav", "y.wav"])
    spec = read_recipe("quick", [f"features.kind={kind}"]).features
    entries = compute_features(project, spec, workers=1).entries
    assert entries["x.wav"].length and entries["y.wav"].length


def test_identical_long_recordings_may_be_under_way_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "_KEPT_NUMBERS", 1000)
    for name in ("a.wav", "b.wav"):
        write(tmp_path / "audio", name, noise())
    project = make_project(tmp_path, ["a.wav", "b.wav"])
    store = FeatureStore(project.features, settle(project, RECIPE.features))
    store.folder.mkdir(parents=True)
    extractor = extraction.Extractor(project.audio_dir, store.spec, store.folder)
    found = [extractor(name) for name in ("a.wav", "b.wav")]
    (store.folder / "frames-of-a-worker-that-was-killed").touch()
    assert found[0].rows != found[1].rows
    sizes = [one.rows.stat().st_size for one in found]
    kept = [one.rows.rename(tmp_path / one.rows.name) for one in found]
    with store.writing():
        for one, rows_of in zip(found, kept, strict=True):
            extraction.keep(store, extraction.Extracted(one.entry, rows_of))
    assert sizes[0] == sizes[1] == store.frames_path.stat().st_size
    assert not list(store.folder.glob("frames-*"))


def test_what_most_clips_have_is_one_line(tmp_path):
    names = [f"{k:02}.wav" for k in range(24)]
    for k, name in enumerate(names):
        write(tmp_path / "audio", name, noise(k, seconds=0.3))
    write(tmp_path / "audio", "05.wav", np.zeros((100, 1)))
    project = make_project(tmp_path, names)
    done = call(project, "check", "--fast", "--workers", "1")
    assert "23 of 24 clips" in done.stdout and "wav  short" not in done.stdout
    with project.store.read() as session:
        table = session.labels()
    assert len(table.paths) == 24
    held_out = [
        checking.ClipIssue(
            path=path,
            issue="sample_rate",
            used=k % 5 > 0,
            reason=f"all ends at {k} Hz" + " (held out)" * (k % 5 == 0),
        )
        for k, path in enumerate(table.paths)
    ]
    [line] = checking.gather(held_out, project)
    assert line.path == "24 of 24 clips" and line.used
    assert line.reason.startswith("all ends at 12 Hz, say; each: labelkit check --json")
    assert "05.wav" in done.stdout and "1 cannot be used" in done.stderr


def test_held_out_clips_are_not_kept_out_because_of_a_fault(tmp_path):
    write(tmp_path / "audio", "a.wav", noise(1, seconds=0.2))
    project, _ = create_project(tmp_path, tmp_path / "audio")
    import_labels(project, write_csv(tmp_path / "l.csv", ("fname", "label"), [("a.wav", "A")]),
                  "csv", FormatSpec(subset="test"))  # fmt: skip
    done = call(project, "check", "--fast", "--workers", "1")
    assert "(held out)" in done.stdout and "0 cannot be used, 1 are held out" in done.stderr
