"""The commands duplicates, similar and embed."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import FormatSpec, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.recordings import confirming, duplicates
from labelkit.recordings.confirming import Candidate, confirm
from labelkit.recordings.duplicates import group_exact, list_duplicates
from tests.support.clips import write_csv

RATE = 16000
SMALL = ("--set", "features.n_mels=16", "--set", "features.sample_rate=8000")


def noise(seed):
    return 0.1 * np.random.default_rng(seed).standard_normal(RATE)


def make_project(root):
    """Eight noises, three copies of one, a fainter one of another, and a broken file."""
    audio = root / "audio"
    audio.mkdir(parents=True)
    for k in range(8):
        soundfile.write(audio / f"{k}.wav", noise(k), RATE)
    for k in range(3):
        shutil.copy(audio / "2.wav", audio / f"copy{k}.wav")
    soundfile.write(audio / "fainter.wav", 0.2 * noise(5), RATE)
    soundfile.write(audio / "cut.wav", noise(6)[3000:], RATE)
    (audio / "broken.wav").write_bytes(b"no sound" * 99)
    (root / "p").mkdir()
    project, _ = create_project(root / "p", audio)
    rows = [(f"{k}.wav", f"c{k % 2}", f"s{k}", k % 2) for k in range(8)]
    rows += [(f"copy{k}.wav", "c0", "s2", 0) for k in range(3)]
    rows += [("fainter.wav", "c0", "s9", 0), ("cut.wav", "c0", "s6", 0)]
    rows += [("broken.wav", "c0", "s10", 0)]
    source = write_csv(root / "x.csv", ("fname", "label", "source", "fold"), rows)
    spec = FormatSpec(group_column="source", fold_column="fold")
    import_labels(project, source, "csv", spec)
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Whoever uses it leaves the labels alone."""
    return make_project(tmp_path_factory.mktemp("copies"))


def call(project, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])


@pytest.mark.slow
def test_pairs_are_listed_most_similar_first(project):
    done = call(project, "duplicates", "--json", "--workers", 1)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert list(rows[0]) == [
        "path", "other", "what", "similarity", "correlation", "offset_s", "labels",
        "other_labels", "same_source", "parted", "reason",
    ]  # fmt: skip
    assert [(row["path"], row["other"]) for row in rows[:3]] == [
        ("2.wav", f"copy{k}.wav") for k in range(3)
    ]
    assert all(row["reason"] == "the same bytes, of the same source" for row in rows[:3])
    found = {(row["path"], row["other"]): row for row in rows[3:]}
    assert set(found) == {("5.wav", "fainter.wav"), ("6.wav", "cut.wav")}
    leak, sibling = found["5.wav", "fainter.wav"], found["6.wav", "cut.wav"]
    assert leak["parted"] == "folds" and not leak["same_source"]
    assert (leak["labels"], leak["other_labels"]) == (["c1"], ["c0"])
    assert leak["reason"] == "the same sound, labelled c0, a leak: in fold 0, not 1"
    assert sibling["parted"] is None and sibling["same_source"]
    assert sibling["reason"] == "the same sound, of the same source"
    assert {row["what"] for row in rows[:3]} == {"same bytes"}
    assert leak["what"] == sibling["what"] == "same sound"
    assert leak["correlation"] > 0.999 and leak["offset_s"] == 0
    assert sibling["correlation"] > 0.95 and sibling["offset_s"] == 3000 / RATE
    similarity = [row["similarity"] for row in rows]
    assert similarity == sorted(similarity, reverse=True) and similarity[0] == 1
    last = done.stderr.splitlines()[-1]
    assert last == "5 pairs: 1 parted by folds or subsets, 1 with other labels"


def test_a_table_and_a_threshold(project):
    done = call(project, "duplicates", "--threshold", 1, "--workers", 1)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["path", "other", "what", "similarity"]
    assert all("the same bytes" in line or "1.0000" in line for line in lines[2:])
    every = call(project, "duplicates", "--threshold", 1e-6, "--json", "--workers", 1)
    rows = json.loads(every.stdout)
    assert len(rows) > 20 and "more are only alike" in every.stderr
    # What is alike is neither a leak nor the same sound, whatever its folds.
    alike = [row for row in rows if row["what"] == "alike"]
    assert len(alike) > 15 and all(row["correlation"] < 0.95 for row in alike)
    assert all(row["parted"] is None and "leak" not in row["reason"] for row in alike)
    assert rows[-len(alike) :] == alike and "5 pairs: 1 parted" in every.stderr
    for wrong in (0, 1.5, "nan", "x"):
        done = call(project, "duplicates", "--threshold", wrong)
        assert done.exit_code == 2 and "Traceback" not in done.output


def test_without_copies_nothing_is_printed(tmp_path):
    (tmp_path / "audio").mkdir()
    for k in range(3):
        soundfile.write(tmp_path / "audio" / f"{k}.wav", noise(k), RATE)
    (tmp_path / "p").mkdir()
    project, _ = create_project(tmp_path / "p", tmp_path / "audio")
    assert list_duplicates(project, read_recipe("probe").features, workers=1) == []
    rows = [(f"{k}.wav", "x") for k in range(3)]
    source = write_csv(tmp_path / "x.csv", ("fname", "label"), rows)
    import_labels(project, source, "csv", FormatSpec())
    done = call(project, "duplicates", "--workers", 1)
    assert done.exit_code == 0 and done.stdout == "" and "0 pairs" in done.stderr


def test_equal_hashes_are_grouped():
    assert group_exact(["a", None, "b", "a", None, "c", "b", "a"]) == [[0, 3, 7], [2, 6]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arabic_commands", "body_percussion_tags", "instrument_mix_tags"])
def test_what_only_sounds_alike_in_real_sets_is_not_the_same(name, shared_data, tmp_path):
    folder = shared_data / name
    project, _ = create_project(tmp_path, folder)
    column = "label" if name == "arabic_commands" else "labels"
    source = folder / "labels.csv"
    import_labels(project, source, "csv", FormatSpec(label_column=column), metadata_only=True)
    pairs = list_duplicates(project, read_recipe("probe").features, workers=2)
    same = [pair for pair in pairs if pair.what != "alike"]
    # The same note by itself, twice: mixed from one recording. Two stomps of one sample.
    known = {"mix_029.ogg", "mix_248.ogg", "halfstomp_l_vl2_rr1.flac"}
    assert {pair.path.split("/")[-1] for pair in same} <= known
    assert all(waveform_correlation(folder, pair) >= 0.95 for pair in same)
    assert len(pairs) > len(same) or name == "arabic_commands"


def waveform_correlation(folder, pair):
    """Correlation of all samples where two files lie over each other best; of no filter."""
    first, second = (
        soundfile.read(folder / path, always_2d=True)[0].mean(axis=1)
        for path in (pair.path, pair.other)
    )
    n = len(first) + len(second)
    cross = np.fft.irfft(np.fft.rfft(first, n) * np.fft.rfft(second, n).conj(), n)
    lag = int(np.abs(cross).argmax())
    lag = lag if lag < len(first) else lag - n
    a, b = first[max(0, lag) :], second[max(0, -lag) :]
    m = min(len(a), len(b))
    return abs(np.corrcoef(a[:m], b[:m])[0, 1])


@pytest.mark.slow
def test_a_recording_that_is_gone_by_then_is_alike(tmp_path):
    project = make_project(tmp_path)
    spec = read_recipe("probe").features
    list_duplicates(project, spec, workers=1)
    (project.audio_dir / "fainter.wav").unlink()
    found = confirm(
        project.audio_dir,
        [Candidate("5.wav", "fainter.wav"), Candidate("6.wav", "cut.wav")],
        workers=1,
    )
    assert [one.is_same for one in found] == [False, True]


@pytest.mark.slow
def test_long_recordings_are_compared_where_they_lie_over_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "LONGEST_S", 4.0)
    monkeypatch.setattr(confirming, "LONGEST_S", 4.0)
    audio = tmp_path / "audio"
    audio.mkdir()
    sound = 0.1 * np.random.default_rng(0).standard_normal(30 * RATE)
    for k in range(3):
        other = 0.1 * np.random.default_rng(k + 1).standard_normal(12 * RATE)
        soundfile.write(audio / f"{k}.wav", other, RATE)
    soundfile.write(audio / "long.wav", sound, RATE)
    soundfile.write(audio / "part.wav", 0.5 * sound[9 * RATE : 21 * RATE], RATE)
    soundfile.write(audio / "short.wav", -sound[11 * RATE : 13 * RATE], RATE)
    (tmp_path / "p").mkdir()
    project, _ = create_project(tmp_path / "p", audio)
    rows = [(path.name, "x") for path in sorted(audio.iterdir())]
    source = write_csv(tmp_path / "x.csv", ("fname", "label"), rows)
    import_labels(project, source, "csv", FormatSpec())
    pairs = list_duplicates(project, read_recipe("probe").features, workers=1)
    found = {(pair.path, pair.other): pair.offset_s for pair in pairs if pair.what == "same sound"}
    assert found == {
        ("long.wav", "part.wav"): pytest.approx(9, abs=1e-3),
        ("long.wav", "short.wav"): pytest.approx(11, abs=1e-3),
        ("part.wav", "short.wav"): pytest.approx(2, abs=1e-3),
    }


@pytest.mark.slow
def test_similar_shows_the_nearest(project):
    done = call(project, "similar", "2.wav", "--most", 4, "--json", *SMALL)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert list(rows[0]) == ["path", "labels", "state", "similarity", "same_source"]
    assert {row["path"] for row in rows[:3]} == {f"copy{k}.wav" for k in range(3)}
    assert all(row["same_source"] and row["similarity"] == 1 for row in rows[:3])
    assert len(rows) == 4 and not rows[3]["same_source"] and rows[3]["state"] == "unverified"
    table = call(project, "similar", "2.wav", *SMALL).stdout.splitlines()
    assert len(table) == 2 + 10


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.wav"], "no clip 'nowhere.wav' in this project"),
        (["broken.wav"], "broken.wav has no embedding by pooled_mel; see: labelkit check"),
        (["2.wav", "--most", 0], "0 is not in the range"),
        (["2.wav", "--probe", "nope"], "no recipe called 'nope'"),
        (["2.wav", "--set", "embedding.embedder=nope"], "nope"),
    ],
)
def test_similar_refuses(project, args, message):
    done = call(project, "similar", *args)
    assert done.exit_code == 2 and message in done.stderr and done.stdout == ""
    assert "Traceback" not in done.output


def test_embed_says_how_many_and_what_is_left_out(project):
    for again in (False, True):
        done = call(project, "embed", "--workers", 1, "--set", "features.n_mels=8")
        assert done.exit_code == 0 and done.stdout == "", done.output
        assert "13 embeddings of 172 numbers in pooled_mel-" in done.stderr
        assert "1 clips are left out: broken.wav (unreadable)" in done.stderr
        assert ("embeddings: 14 of 14" in done.stderr) != again


def test_embed_takes_vectors_of_a_file(project, tmp_path):
    paths = [f"{k}.wav" for k in range(8)]
    vectors = np.random.default_rng(0).normal(size=(8, 5))
    vectors[1] = vectors[0]  # The copies of 2.wav have its vector.
    np.savez(tmp_path / "mine.npz", paths=paths, embeddings=vectors)
    setting = ("--set", f"embedding.embedder=vectors:{tmp_path / 'mine.npz'}")
    done = call(project, "embed", *setting)
    assert done.exit_code == 0 and "11 embeddings of 5 numbers in mine-" in done.stderr
    assert "3 clips are left out: " in done.stderr and "cut.wav (no_vector)" in done.stderr
    nearest = json.loads(call(project, "similar", "0.wav", "--json", *setting).stdout)
    assert nearest[0]["path"] == "1.wav" and len(nearest) == 10
    done = call(project, "embed", "--set", "embedding.embedder=vectors:/nowhere.npz")
    assert done.exit_code == 2 and "no such file /nowhere.npz" in done.stderr


@pytest.mark.slow
def test_embed_takes_a_function_and_checks_it(project, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_for_embed.py").write_text(
        "import numpy as np\n"
        "def spectrum(windows):\n"
        "    return np.log1p(np.abs(np.fft.rfft(windows[:, :64])))\n"
        "def constant(windows):\n"
        "    return np.ones((len(windows), 4))\n"
    )
    embed = ("embed", "--workers", 1, "--set")
    done = call(project, *embed, "embedding.embedder=own_for_embed:spectrum")
    assert done.exit_code == 0, done.output
    assert "13 embeddings of 33 numbers in own_for_embed_spectrum-" in done.stderr
    done = call(project, *embed, "embedding.embedder=own_for_embed:constant")
    assert done.exit_code == 2 and "own_for_embed:constant" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.output
