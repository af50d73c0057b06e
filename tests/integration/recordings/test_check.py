"""What check says of clips apart from their labels."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner

from labelkit.audio import faults, io
from labelkit.cli import cli
from labelkit.config import FormatSpec, read_recipe
from labelkit.datasets.demo import synthesise
from labelkit.labels.importing import import_labels
from labelkit.output import as_row
from labelkit.project import create_project
from labelkit.recordings.checking import check
from labelkit.records import Batch, LabelEvent
from labelkit.runs.dataset import read_dataset
from tests.support.clips import write_csv

RATE = 16000
RECIPE = read_recipe("quick", ["input.frames=16"])


def noise(seed, seconds=1.0, rate=RATE):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))


def make_project(root, waves, rows, *, subsets=(), rates=None):
    """A project on samples by name; rows of name, label, fold and source."""
    audio = root / "audio"
    audio.mkdir(parents=True)
    for name, wave in waves.items():
        if isinstance(wave, bytes):
            (audio / name).write_bytes(wave)
        else:
            soundfile.write(audio / name, wave, (rates or {}).get(name, RATE))
    (root / "project").mkdir()
    project, _ = create_project(root / "project", audio)
    folded = rows and len(rows[0]) > 3
    columns = {"group_column": "source", "fold_column": "fold" if folded else None}
    for subset in ("train", "test"):
        mine = [row for row in rows if (row[0] in subsets) == (subset == "test")]
        if mine:
            header = ("fname", "label", "source", "fold")[: len(mine[0])]
            source = write_csv(root / f"{subset}.csv", header, mine)
            import_labels(project, source, "csv", FormatSpec(subset=subset, **columns))
    return project


def issues_of(rows, issue):
    return {row.path: row.reason for row in rows if row.issue == issue}


# Where the content of a recording ends.


@pytest.mark.parametrize("low", [8000, 16000, 22050, 24000])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_upsampled_noise_ends_at_half_its_first_rate(low, rate):
    wave = soxr.resample(np.column_stack([noise(0, 1, low)] * 2), low, rate)
    wave = np.round(wave * 32767) / 32767
    edge_hz, fall_db = faults.find_cutoff(wave, rate)
    assert edge_hz == pytest.approx(low / 2, rel=0.06) and fall_db > 45


def low_passed(seed):
    from scipy.signal import butter, lfilter

    return lfilter(*butter(2, 0.1), noise(seed))


@pytest.mark.parametrize(
    "wave",
    [
        noise(0),
        low_passed(0),
        0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE),
        0.3 * np.sign(np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)),
        soxr.resample(noise(0), RATE, 2 * RATE)[:200],
        np.zeros(RATE),
    ],
    ids=["noise", "soft slope", "tone", "square", "too short", "zeros"],
)
def test_what_is_not_cut_off_is_not_said_to_be(wave):
    assert faults.find_cutoff(wave[:, None], RATE) is None


@pytest.mark.parametrize("name", ["Bell", "Falling_glide", "Gallop", "Surf", "Siren"])
def test_synthesised_sounds_are_not_cut_off(name):
    assert faults.find_cutoff(synthesise(name, np.random.default_rng(0))[:, None], 16000) is None


@pytest.mark.slow
def test_real_clips_are_cut_off_once_they_were_upsampled(shared_data):
    clips = sorted((shared_data / "esc10" / "audio").iterdir())[::10]
    before, after = [], []
    for clip in clips:
        samples, rate = io.read_audio(clip)
        low = soxr.resample(soxr.resample(samples, rate, 16000), 16000, rate)
        before.append(faults.find_cutoff(samples, rate) is not None)
        after.append(faults.find_cutoff(np.round(low * 32767) / 32767, rate) is not None)
    assert sum(before) <= 0.05 * len(clips) and sum(after) >= 0.75 * len(clips)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.09, ["very_short"]), (0.11, ["short"]), (0.6, [])]
)
def test_very_short_is_told_apart_from_short(tmp_path, seconds, expected):
    soundfile.write(tmp_path / "x.wav", noise(0, seconds), RATE)
    assert faults.inspect(tmp_path / "x.wav", window_s=0.5).faults == expected
    assert faults.inspect(tmp_path / "x.wav").faults == [n for n in expected if n != "short"]


# Sample rates.


def rate_project(root, n_other):
    waves = {f"{k:02d}.wav": noise(k, 0.5) for k in range(24)}
    rates = {f"{k:02d}.wav": 8000 for k in range(n_other)}
    rows = [(name, f"c{k % 2}", name) for k, name in enumerate(waves)]
    return make_project(root, waves, rows, rates=rates)


@pytest.mark.slow
def test_the_rate_of_one_is_told_and_no_rate_of_a_mixed_set(tmp_path):
    found = issues_of(check(rate_project(tmp_path / "a", 1), RECIPE, fast=True, workers=1),
                      "sample_rate")  # fmt: skip
    assert found == {"00.wav": "has an odd sample rate: 8000 Hz, where 23 of 24 have 16000 Hz"}
    mixed = check(rate_project(tmp_path / "b", 2), RECIPE, fast=True, workers=1)
    assert not issues_of(mixed, "sample_rate")


# Copies, and clips like no other.


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Fourteen noises and what was done to some of them; only ever read.

    Folds are given: 0 for even numbers, 1 for odd ones.
    """
    waves = {f"{k:02d}.wav": noise(k) for k in range(14)}
    t = np.arange(RATE) / RATE
    waves["fainter.wav"] = 0.2 * waves["00.wav"]
    waves["cut.wav"] = waves["03.wav"][2000:]
    waves["locked.wav"] = 0.5 * waves["05.wav"]
    waves["sibling.wav"] = 0.5 * waves["06.wav"]
    waves["beep.wav"] = 0.3 * np.sin(2 * np.pi * 3000 * t**2)
    waves["upsampled.wav"] = soxr.resample(noise(99, 1, 4000), 4000, RATE)
    waves["broken.wav"] = b"no sound at all" * 50
    rows = [(f"{k:02d}.wav", "High" if k < 7 else "Low", f"s{k}", k % 2) for k in range(14)]
    rows += [
        ("fainter.wav", "High", "s20", 0), ("cut.wav", "Low", "s21", 0),
        ("locked.wav", "High", "s22", 0), ("sibling.wav", "High", "s6", 0),
        ("beep.wav", "Low", "s23", 1), ("upsampled.wav", "High", "s24", 1),
        ("broken.wav", "Low", "s25", 1),
    ]  # fmt: skip
    project = make_project(tmp_path_factory.mktemp("planted"), waves, rows, subsets=["locked.wav"])
    for name, of in (("twin.wav", "08.wav"), ("leak.wav", "09.wav")):
        shutil.copy(project.audio_dir / of, project.audio_dir / name)
    # Imported without the recordings, so that nobody sees that they are the same.
    source = write_csv(
        project.root / "more.csv",
        ("fname", "label", "source", "fold"),
        [("twin.wav", "High", "s30", 0), ("leak.wav", "Low", "s31", 0)],
    )
    spec = FormatSpec(group_column="source", fold_column="fold")
    import_labels(project, source, "csv", spec, metadata_only=True)
    return project


@pytest.fixture(scope="module")
def listed(planted):
    return check(planted, RECIPE, workers=1)


@pytest.mark.slow
def test_copies_are_told_with_what_hangs_on_them(listed):
    what = "holds the same sound as another clip"
    found = issues_of(listed, "near_duplicate")
    assert sorted(found) == [
        "00.wav", "03.wav", "05.wav", "06.wav",
        "cut.wav", "fainter.wav", "locked.wav", "sibling.wav",
    ]  # fmt: skip
    assert found["00.wav"] == f"{what}: fainter.wav (similarity 1.00)"
    assert found["fainter.wav"] == f"{what}: 00.wav (similarity 1.00)"
    assert found["03.wav"].startswith(f"{what}: cut.wav (similarity 0.")
    assert found["03.wav"].endswith(", labelled Low, a leak: in fold 0, not 1)")
    assert found["cut.wav"].endswith(", labelled High, a leak: in fold 1, not 0)")
    assert found["05.wav"] == f"{what}: locked.wav (similarity 1.00, a leak: in test, not in train)"
    assert found["sibling.wav"] == f"{what}: 06.wav (similarity 1.00, of the same source)"
    exact = issues_of(listed, "exact_duplicate")
    assert exact == {
        "08.wav": "has the same bytes as another clip: twin.wav (labelled High)",
        "twin.wav": "has the same bytes as another clip: 08.wav (labelled Low)",
        "09.wav": "has the same bytes as another clip: leak.wav (a leak: in fold 0, not 1)",
        "leak.wav": "has the same bytes as another clip: 09.wav (a leak: in fold 1, not 0)",
    }


def test_a_clip_like_no_other_and_one_of_odd_rate_are_told(listed):
    outliers = issues_of(listed, "outlier")
    # Noise without highs is like no other here, too.
    assert list(outliers) == ["beep.wav", "upsampled.wav"]
    number = r"has similarity (-?[01]\.\d\d) by pooled_mel, where ([01]\.\d\d) is usual$"
    for reason in outliers.values():
        nearest, usual = map(float, re.search(number, reason).groups())
        assert nearest < usual
    odd = issues_of(listed, "sample_rate")
    assert list(odd) == ["upsampled.wav"] and "as if upsampled" in odd["upsampled.wav"]
    assert "16000 Hz could hold up to 8.0 kHz, but all ends at" in odd["upsampled.wav"]


@pytest.mark.slow
def test_every_row_says_whether_training_uses_the_clip(planted, listed, tmp_path):
    assert {row.issue for row in listed} <= set(faults.REASONS)
    assert [row.path for row in listed] == sorted(row.path for row in listed)
    copy = tmp_path / "project"
    shutil.copytree(planted.root, copy)
    project, _ = create_project(copy, planted.audio_dir)
    trained = read_dataset(project, read_recipe("probe"), workers=1)
    used = {trained.table.paths[clip] for clip in trained.train}
    assert {row.path for row in listed if not row.used} == {
        "broken.wav", "leak.wav", "locked.wav"
    }  # fmt: skip
    assert all(row.used == (row.path in used) for row in listed)


@pytest.mark.slow
def test_fast_leaves_out_what_needs_spectrograms(planted, listed, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(planted.root, copy)
    shutil.rmtree(copy / ".labelkit")
    project, _ = create_project(copy, planted.audio_dir)
    rows = check(project, RECIPE, fast=True, workers=2)
    assert rows == [row for row in listed if row.issue not in ("near_duplicate", "outlier")]
    assert not project.features.exists() and not (project.work / "embeddings").exists()


@pytest.mark.slow
def test_rejected_clips_have_no_copies(planted, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(planted.root, copy)
    project, _ = create_project(copy, planted.audio_dir)
    with project.store.write() as session:
        table = session.labels()
        out = [table.clip_ids[table.paths.index(p)] for p in ("cut.wav", "twin.wav", "beep.wav")]
        events = [LabelEvent(clip_id=int(i), state="rejected", labels=(), source="me") for i in out]
        session.append(Batch(key="r", kind="r", actor="me", by_person=True, events=events))
    rows = check(project, RECIPE, workers=1)
    assert not {"cut.wav", "03.wav", "twin.wav", "08.wav", "beep.wav"} & {r.path for r in rows}
    assert {"00.wav", "leak.wav"} <= {row.path for row in rows}


@pytest.mark.slow
def test_clips_of_one_source_do_not_vouch_for_each_other(tmp_path):
    rng = np.random.default_rng(0)
    waves = {f"{k:02d}.wav": noise(k, 0.2) for k in range(56)}
    # Around one axis and, nearer to each other, around another.
    far = (np.arange(56) >= 45).astype(int)
    vectors = np.eye(16)[far] + rng.normal(0, 0.05 - 0.03 * far[:, None], (56, 16))
    np.savez(tmp_path / "v.npz", paths=list(waves), embeddings=vectors)
    probe = read_recipe("probe", [f"embedding.embedder=vectors:{tmp_path / 'v.npz'}"])
    found = []
    for name in ("alone", "together"):
        rows = [(path, "x", path if name == "alone" or path < "45" else "one") for path in waves]
        project = make_project(tmp_path / name, waves, rows)
        found.append(set(issues_of(check(project, RECIPE, probe=probe, workers=1), "outlier")))
    assert found == [set(), {path for path in waves if path >= "45"}]


# Little to go by.


@pytest.mark.slow
def test_nothing_but_broken_files_are_listed(tmp_path):
    waves = {f"{k:02d}.wav": b"no sound at all" * (k + 9) for k in range(12)}
    waves["silent.wav"], waves["silent2.wav"] = np.zeros(RATE), np.zeros(RATE)
    project = make_project(tmp_path, waves, [(name, "x", name) for name in waves])
    (project.audio_dir / "00.wav").unlink()
    rows = check(project, RECIPE, workers=2)
    assert [(row.path, row.issue) for row in rows] == [
        ("00.wav", "missing"), *((f"{k:02d}.wav", "unreadable") for k in range(1, 12)),
        ("silent.wav", "silent"), ("silent2.wav", "silent"),
    ]  # fmt: skip
    assert not any(row.used for row in rows)


@pytest.mark.parametrize("n", [0, 1, 10])
def test_fewer_clips_than_neighbours_are_no_outliers(tmp_path, n, capsys):
    waves = {f"{k}.wav": noise(k) for k in range(n)}
    project = make_project(tmp_path, waves, [(name, "x", name) for name in waves])
    assert check(project, RECIPE, workers=1) == []
    assert f"outliers are not looked for: {n} clips, fewer than 11" in capsys.readouterr().err


def test_of_many_copies_three_are_named(tmp_path):
    waves = {f"{k}.wav": noise(k // 6) for k in range(7)}
    project = make_project(tmp_path, waves, [(name, "x", name) for name in waves])
    found = issues_of(check(project, RECIPE, fast=True, workers=1), "exact_duplicate")
    assert found["4.wav"] == "has the same bytes as another clip: 0.wav; 1.wav; 2.wav; and 2 more"
    assert sorted(found) == [f"{k}.wav" for k in range(6)]


# The command.


def call(project, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])


@pytest.mark.slow
def test_the_command_prints_the_rows_and_counts_them(planted, listed):
    settings = ("check", "--set", "input.frames=16", "--workers", 1)
    done = call(planted, *settings, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout) == [as_row(row) for row in listed]
    clips = {row.path for row in listed}
    assert done.stderr.splitlines()[-1] == (
        f"{len(listed)} issues of {len(clips)} clips; 1 cannot be used, 2 are held out, rejected "
        "or copies of others"
    )
    done = call(planted, *settings, "--fast")
    assert done.stdout.splitlines()[0].split() == ["path", "issue", "used", "reason"]
    assert "near_duplicate" not in done.stdout and "exact_duplicate" in done.stdout
    done = call(planted, "check", "--probe", "nope")
    assert done.exit_code == 2 and "no recipe called 'nope'" in done.stderr


# What is a matter of the set is told once, and each clip that differs by itself.


def sampled_up(seed, seconds=0.5):
    return soxr.resample(noise(seed, seconds, 4000), 4000, RATE)


def of_set(n, usual, others=(), other=None):
    """Samples of ``n`` clips, of which some are others, by name."""
    return {f"{k:02d}.wav": (other if k in others else usual)(k) for k in range(n)}


ONE_LINE = {
    "all sampled up": (of_set(24, sampled_up), "24 of 24 clips", "sample_rate", []),
    "a third sampled up": (
        of_set(60, lambda k: noise(k, 0.5), range(20), sampled_up),
        "20 of 60 clips", "sample_rate", [],
    ),
    "some sampled up": (
        of_set(24, lambda k: noise(k, 0.5), (3, 9), sampled_up), None, "sample_rate",
        ["03.wav", "09.wav"],
    ),
    "all short": (of_set(24, lambda k: noise(k, 0.3)), "24 of 24 clips", "short", []),
    "all short and two far shorter": (
        of_set(24, lambda k: noise(k, 0.3), (3, 9), lambda k: noise(k, 0.11)),
        "22 of 24 clips", "short", ["03.wav", "09.wav"],
    ),
    "a few short": (
        of_set(24, lambda k: noise(k, 1), (3, 9), lambda k: noise(k, 0.3)), None, "short",
        ["03.wav", "09.wav"],
    ),
    "all a twentieth of a second": (
        of_set(24, lambda k: noise(k, 0.05)), "24 of 24 clips", "short", []
    ),
    "one a twentieth of a second": (
        of_set(24, lambda k: noise(k, 0.5), (3,), lambda k: noise(k, 0.05)), None, "very_short",
        ["03.wav"],
    ),
    "all clipped": (
        of_set(24, lambda k: np.clip(20 * noise(k, 0.5), -1, 1)), "24 of 24 clips", "clipped", []
    ),
    "all silent": (of_set(24, lambda k: np.zeros(8000)), "24 of 24 clips", "silent", []),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_LINE)
def test_a_matter_of_the_set_is_one_line(name, tmp_path):
    waves, path, issue, alone = ONE_LINE[name]
    project = make_project(tmp_path, waves, [(clip, "x", clip) for clip in waves])
    # A window of 0.4 s.
    window = ("--set", "input.frames=25", "--set", "features.sample_rate=16000")
    settings = ("--set", "features.hop_length=256", "--fast", "--workers", 1)
    done = call(project, "check", *window, *settings)
    rows = [line.split()[:6] for line in done.stdout.splitlines()[2:]]
    assert done.exit_code == 0, done.output
    shared = [" ".join(row[:4]) for row in rows if row[4:5] == [issue]]
    assert shared == ([path] if path else []), done.stdout
    assert [row[0] for row in rows if row[1] == issue] == alone
    # Every row is there for programs, and the line says so.
    every = json.loads(call(project, "check", *window, *settings, "--json").stdout)
    n_shared = int(path.split()[0]) if path else 0
    assert sum(row["issue"] == issue for row in every) == n_shared + len(alone)
    assert ("each: labelkit check --json" in done.stdout) == (path is not None)
