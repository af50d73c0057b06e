"""The encoder aisfx on projects: the wheel it reads, what it refuses, what is kept; --encoder."""

import csv
import json
import sys
from importlib import metadata

import numpy as np
import pytest
import soundfile

from labelkit.audio import aisfx, embedding, io
from labelkit.config import EmbeddingSpec, FeatureSpec, FormatSpec
from labelkit.errors import InvalidInput, MissingPackage
from labelkit.labels.importing import import_labels
from labelkit.models.aisfx import Encoder, embed, load_aisfx
from labelkit.noise.probe import Probe, cross_probs
from labelkit.project import create_project
from labelkit.recordings.embedding import compute_embeddings, open_embeddings, read_embeddings
from tests.support.clips import write_csv
from tests.support.commands import call
from tests.support.projects import copy_project
from tests.support.wheels import need_aisfx, random_tensors, save_weights, sweep, write_wheel

SPEC = EmbeddingSpec(embedder="aisfx")
# Seconds and rate of each clip: shorter than a block, than a window, and longer than two.
CLIPS = {
    "moment.wav": (0.02, 44100), "syllable.wav": (0.1, 32000), "word.wav": (0.9, 8000),
    "block.wav": (2.4, 44100), "long.wav": (5.2, 22050), "other.wav": (0.9, 16000),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project of clips of many lengths, and the weights of a wheel; only ever read."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "audio").mkdir()
    for number, (name, (seconds, rate)) in enumerate(CLIPS.items()):
        wave = sweep(seconds, rate)
        soundfile.write(folder / "audio" / name, wave[::-1] if number % 2 else wave, rate)
    project, _ = create_project(folder / "p", folder / "audio")
    rows = [(name, f"c{number % 2}") for number, name in enumerate(CLIPS)]
    source = write_csv(folder / "l.csv", ("fname", "label"), rows)
    import_labels(project, source, "csv", FormatSpec())
    return project, *save_weights(folder / "w.pth")


@pytest.fixture
def project(made, tmp_path):
    return copy_project(made[0], tmp_path / "p")


@pytest.fixture
def installed(made, tmp_path, monkeypatch):
    """A wheel whose weights count as the known ones, and nothing of which can be imported."""
    monkeypatch.syspath_prepend(write_wheel(tmp_path / "site", weights=made[1]))
    monkeypatch.setattr(aisfx, "SHA256", made[2])
    monkeypatch.delitem(sys.modules, "aisfx", raising=False)


def compute(project, spec=SPEC):
    return compute_embeddings(project, spec, FeatureSpec(), workers=1)


# What is there, and what is not.


def remove_it(site, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)


def other_version(version):
    return lambda site, monkeypatch: write_wheel(site, version=version, weights=b"w")


SITUATIONS = {
    "not installed": (remove_it, r"aisfx, which is not installed; install it with: pip install"),
    "an older version": (other_version("0.1.1"), r"knows .* aisfx 0.1.2, and 0.1.1 is installed"),
    "a newer version": (other_version("0.2.0"), r"aisfx 0.1.2, and 0.2.0 is installed; install"),
    "other weights": (
        lambda site, monkeypatch: write_wheel(site, weights=b"others"),
        r"has other weights than aisfx 0.1.2 \(sha256 .*, not 499ea75909c9",
    ),
    "weights cut off": (
        lambda site, monkeypatch: write_wheel(site, weights=b""),
        "has other weights than aisfx 0.1.2",
    ),
    "no weights": (
        lambda site, monkeypatch: write_wheel(site),
        r"the weights of aisfx 0.1.2 cannot be read \(No such file",
    ),
    "a folder in their place": (
        lambda site, monkeypatch: (write_wheel(site) / "aisfx/models/checkpoint.pth").mkdir(),
        r"the weights of aisfx 0.1.2 cannot be read \(Is a directory",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_wheel_that_does_not_do_is_named_with_the_remedy(
    project, tmp_path, monkeypatch, situation
):
    spoil, message = SITUATIONS[situation]
    monkeypatch.syspath_prepend(tmp_path / "site")
    spoil(tmp_path / "site", monkeypatch)
    with pytest.raises(InvalidInput, match=message) as caught:
        compute(project)
    said = str(caught.value)
    assert "pip install --no-deps aisfx==0.1.2" in said and "\n" not in said
    assert isinstance(caught.value, MissingPackage) == (situation == "not installed")
    assert not open_embeddings(project, SPEC, FeatureSpec()).entries
    for words in (("embed",), ("similar", "word.wav"), ("train",), ("verify",)):
        done = call(project, *words, "--encoder", "aisfx")
        assert done.exit_code == 2 and done.stdout == "", done.output
        assert done.stderr.splitlines()[-1] == f"Error: {said}"


# What it hears, and what is kept.


@pytest.mark.slow
def test_clips_of_any_length_have_a_vector(project, installed):
    matrix, usable = read_embeddings(project, SPEC, FeatureSpec(), list(CLIPS))
    assert not usable.any()
    assert compute(project).dim == 512
    matrix, usable = read_embeddings(project, SPEC, FeatureSpec(), list(CLIPS))
    assert usable.all() and np.isfinite(matrix).all() and "aisfx" not in sys.modules
    encoder = Encoder(random_tensors())
    for path in ("moment.wav", "block.wav"):
        wave, rate = soundfile.read(project.audio_dir / path, dtype="float32")
        assert rate == 44100
        np.testing.assert_allclose(
            matrix[list(CLIPS).index(path)], embed(encoder, wave[None])[0], rtol=1e-3, atol=1e-4
        )


@pytest.mark.slow
def test_windows_have_vectors_of_their_own(project, installed):
    whole = compute(project).read(list(CLIPS))[0]
    store = compute(project, EmbeddingSpec(embedder="aisfx", window_s=1.0, hop_s=0.5))
    parts = store.read(list(CLIPS))[0]
    assert store.dim == 512 and np.abs(parts[4] - whole[4]).max() > 1e-4
    # The rate is the encoder's own.
    other = EmbeddingSpec(embedder="aisfx", sample_rate=8000)
    folders = [open_embeddings(project, s, FeatureSpec()).folder for s in (SPEC, other)]
    assert folders[0] == folders[1] != store.folder


@pytest.mark.slow
def test_vectors_are_kept_with_what_they_are_of_and_need_no_wheel(
    project, installed, tmp_path, monkeypatch
):
    done = call(project, "embed", "--encoder", "aisfx")
    assert done.exit_code == 0 and done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "CC BY 4.0" in line] == [
        f"aisfx: {aisfx.ATTRIBUTION}"
    ]
    store = open_embeddings(project, SPEC, FeatureSpec())
    kept = json.loads((store.folder / "spec.json").read_text())
    assert kept["sha256"].startswith("499ea759") and kept["version"] == "0.1.2"
    assert kept["attribution"] == aisfx.ATTRIBUTION and "CC BY 4.0" in kept["attribution"]
    remove_it(None, monkeypatch)
    done = call(project, "similar", "word.wav", "--encoder", "aisfx", "--json")
    assert done.exit_code == 0 and "CC BY" not in done.stderr, done.output
    assert len(json.loads(done.stdout)) == 5
    # A recording that comes later is not heard without it.
    soundfile.write(project.audio_dir / "word.wav", sweep(0.7), 44100)
    done = call(project, "embed", "--encoder", "aisfx")
    assert done.exit_code == 2 and "which is not installed" in done.stderr


@pytest.mark.slow
def test_training_takes_the_panel_with_an_encoder(project, installed):
    call(project, "folds", "--n", "2")
    runs = []
    beside = "embedding.beside=ordered_mel,mean_cepstra,aisfx"
    for words in (("--encoder", "aisfx"), ("--recipe", "panel", "--encoder", "aisfx"),
                  ("--recipe", "panel", "--set", beside),
                  ("--recipe", "probe", "--encoder", "aisfx"),
                  ("--recipe", "probe", "--set", "embedding.embedder=aisfx")):  # fmt: skip
        done = call(project, "train", *words, "--json")
        assert done.exit_code == 0, done.output
        runs.append(json.loads(done.stdout)[0])
    ids = [run["run_id"] for run in runs]
    assert ids[0] == ids[1] == ids[2] != ids[3] == ids[4]
    assert "panel on 4_views-" in runs[0]["signature"]
    assert "logistic_regression on aisfx-" in runs[3]["signature"]


# Vectors that tell nothing, of any embedder.


def vectors(n, n_alike, noise=0.0):
    rng = np.random.default_rng(0)
    found = rng.standard_normal((n, 8)).astype(np.float32)
    found[n - n_alike :] = [1, -2, 0, 3, 5, -1, 0.5, 0] + noise * rng.standard_normal((n_alike, 8))
    return found


# Of how many clips how many have a vector in common, but for noise; and what is said.
ALIKE = {
    (20, 20, 0.0): "refused", (20, 19, 0.0): "refused", (20, 18, 0.0): "refused",
    (20, 17, 0.0): "told", (20, 7, 0.0): "told", (20, 2, 0.0): "told", (20, 1, 0.0): "",
    (30, 2, 0.0): "", (20, 12, 1e-7): "told", (2, 2, 0.0): "refused",
    (2, 1, 0.0): "", (1, 1, 0.0): "", (20, 20, 1e-7): "refused", (20, 20, 1e-3): "",
    (3000, 2900, 0.0): "refused", (3000, 400, 0.0): "told", (3000, 20, 0.0): "",
}  # fmt: skip


@pytest.mark.parametrize("case", ALIKE, ids=str)
def test_vectors_that_tell_no_clips_apart_are_refused(case, capsys):
    n, n_alike, noise = case
    found, names = vectors(n, n_alike, noise), [f"{k}.wav" for k in range(n)]
    told = f"embedder e gives the same vector for {n_alike} of {n} clips, {n - n_alike}.wav and"
    if ALIKE[case] == "refused":
        with pytest.raises(InvalidInput, match=told):
            embedding.check_spread("e", names, found)
    else:
        embedding.check_spread("e", names, found)
    said = capsys.readouterr().err
    assert said.startswith(told) if ALIKE[case] == "told" else said == ""


@pytest.mark.parametrize("value", [0.0, 1.0, -3e30])
def test_constant_vectors_of_a_file_are_refused(project, tmp_path, value):
    np.save(tmp_path / "v.npy", np.full((len(CLIPS), 4), value))
    spec = EmbeddingSpec(embedder=f"vectors:{tmp_path / 'v.npy'}")
    for _ in range(2):  # They are there the second time.
        with pytest.raises(InvalidInput, match="same vector for 6 of 6 clips, block"):
            compute(project, spec)


def test_copies_of_one_recording_may_have_one_vector(project, tmp_path):
    first = (project.audio_dir / "word.wav").read_bytes()
    for name in CLIPS:
        (project.audio_dir / name).write_bytes(first)
    assert compute(project, EmbeddingSpec()).dim


# The real weights.

# Where the vector of a sweep is highest, and what it is there.
HIGHEST, VALUES = [294, 423, 46, 48, 299], [0.1320, 0.1149, 0.1127, 0.1121, 0.1096]
# Cosine of it and the vector of the same sweep backwards.
BACKWARDS = 0.97297


@pytest.mark.slow
def test_the_real_weights_are_those_that_were_measured():
    need_aisfx()
    loaded = load_aisfx()
    found = loaded.embed(np.stack([sweep(5.0), sweep(5.0)[::-1]]))
    assert loaded.sample_rate == 44100 and found.shape == (2, 512) and "aisfx" not in sys.modules
    assert np.argsort(-found[0])[:5].tolist() == HIGHEST
    np.testing.assert_allclose(found[0, HIGHEST], VALUES, rtol=1e-3)
    assert found[0] @ found[1] == pytest.approx(BACKWARDS, abs=1e-4)


@pytest.mark.slow
def test_the_real_weights_tell_real_sounds_apart(shared_data):
    """Forty clips of four classes, on the official folds; chance is a quarter."""
    need_aisfx()
    folder = shared_data / "esc10"
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    names = sorted({row["label"] for row in rows})[:4]
    rows = [row for row in rows if row["label"] in names][::4]
    files = [folder / "audio" / row["fname"] for row in rows]
    loaded = load_aisfx()
    x = np.concatenate([loaded.embed(io.to_mono(*io.read_audio(f), 44100)[None]) for f in files])
    labels = np.eye(4)[[names.index(row["label"]) for row in rows]]
    folds = np.array([int(row["fold"]) for row in rows])
    probs = cross_probs(Probe(embeddings=x, labels=labels, folds=folds), folds)
    assert (probs.argmax(axis=1) == labels.argmax(axis=1)).mean() > 0.8
