"""Embeddings: pooling, the kinds of embedder, what is checked of them, and their cache."""

import itertools
import json
import os
import shutil
import sys

import numpy as np
import pytest

from labelkit.audio import embedding, features, io
from labelkit.audio.embedding import Embedder, cut_windows, embed_clips, pool_frames, try_out
from labelkit.config import EmbeddingSpec, FeatureSpec, FormatSpec, create_spec
from labelkit.errors import InvalidInput, StoreBusy, UnknownName
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.recordings.embedding import (
    compute_embeddings,
    load_hear,
    open_embeddings,
    read_embeddings,
    similar,
)
from labelkit.stores.embeddings import EmbeddingStore, read_vectors
from tests.support.clips import write_csv, write_tone
from tests.support.projects import copy_tones

FEATURES = FeatureSpec(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def labelled(tones, tmp_path_factory):
    """The folder of the tones and a project with their labels; only ever read."""
    folder = tmp_path_factory.mktemp("labelled")
    import_all(copy_tones(tones, folder))
    return folder


@pytest.fixture
def project(labelled, tmp_path):
    """Six tones: 0, 2 and 4 low, the others high; 0 and 1 of one source."""
    return copy_tones(labelled, tmp_path)


def import_all(project):
    rows = [(f"{k}.wav", f"c{k % 2}", "s0" if k < 2 else f"s{k}") for k in range(6)]
    source = write_csv(project.root / "all.csv", ("fname", "label", "source"), rows)
    import_labels(project, source, "csv", FormatSpec(group_column="source"))


PATHS = [f"{k}.wav" for k in range(6)]

SPECTRUM = """
import numpy as np
calls = []
def embed(windows):
    calls.append(windows.shape)
    return np.log1p(np.abs(np.fft.rfft(windows[:, :256])))[:, :40].astype(np.float32)
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Writes a module and returns the name of one of its functions."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source=SPECTRUM, function="embed"):
        name = f"own_embedder_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return f"{name}:{function}"

    return write


def calls_of(name):
    return sys.modules[name.split(":")[0]].calls


def compute(project, spec, feature_spec=FEATURES):
    return compute_embeddings(project, spec, feature_spec, workers=1)


def samples_of(project, path, rate):
    return io.to_mono(*io.read_audio(project.audio_dir / path), rate)


# Pooling.


def test_pooled_statistics_equal_naive_ones():
    rng = np.random.default_rng(0)
    frames = rng.normal(-40, 8, (90, 40))
    x = np.maximum(frames, frames.max() - 80)
    x = x - sum(x.ravel().tolist()) / x.size
    change = np.array([x[t + 2] - x[t] for t in range(88)])
    expected = []
    for values, percents in ((x, (5, 50, 95)), (change, (5, 95))):
        expected += [values.mean(0), values.std(0)]
        expected += [[np.percentile(band, p) for band in values.T] for p in percents]
    centred = x - x.mean(0)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, 91) / 91)
    for octave in range(7, -1, -1):
        top = 0.5 / 2**octave
        energies = []
        for band in (centred * window[:, None]).T:
            hz = [k / 1024 for k in range(513) if top / 2 < k / 1024 <= top]
            waves = np.exp(-2j * np.pi * np.outer(hz, np.arange(90)))
            energies.append((np.abs(waves @ band) ** 2).sum() / 90 / 1024)
        expected.append(10 * np.log10(np.array(energies) + 1e-3))
    n = np.arange(40)
    basis = np.array([np.cos(np.pi * k * (2 * n + 1) / 80) for k in range(30)])
    basis *= np.where(np.arange(30) == 0, np.sqrt(1 / 40), np.sqrt(2 / 40))[:, None]
    from scipy.linalg import logm

    logarithm = logm(np.cov(centred @ basis.T, rowvar=False, bias=True) + np.eye(30))
    logarithm *= 10 / np.log(10)
    rows = [logarithm[i, j] * (1 if i == j else 2**0.5) for i in range(30) for j in range(i, 30)]
    found = pool_frames(frames)
    assert found.dtype == np.float32 and found.shape == (17 * 40 + 465,)
    np.testing.assert_allclose(found, np.concatenate([*expected, rows]), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (2, 16), (3, 64), (1500, 8)])
def test_any_spectrogram_pools_to_a_length_of_its_bands(shape):
    rng = np.random.default_rng(1)
    pooled = pool_frames(rng.normal(-40, 8, shape).astype(np.float16))
    bands = min(30, shape[1])
    assert len(pooled) == 17 * shape[1] + bands * (bands + 1) // 2
    assert np.isfinite(pooled).all()
    assert np.isfinite(pool_frames(np.full(shape, -100.0))).all()


def test_a_gain_changes_nothing_above_the_floor():
    rng = np.random.default_rng(2)
    wave = rng.standard_normal(16000)[:, None].astype(np.float32) * 0.1
    loud, quiet = (
        pool_frames(features.compute(gain * wave, 8000, FEATURES)[0]) for gain in (1, 0.1)
    )
    np.testing.assert_allclose(loud, quiet, atol=0.02)
    other = pool_frames(features.compute(np.cumsum(wave, axis=0) / 50, 8000, FEATURES)[0])
    assert np.abs(loud - other).max() > 10


def test_modulation_tells_fast_from_slow():
    t = np.arange(512)[:, None]
    octaves = [
        pool_frames(20 * np.sin(2 * np.pi * t / period) * np.ones(4))[36:68].reshape(8, 4)
        for period in (2.5, 40, 300)
    ]
    assert [int(found[:, 0].argmax()) for found in octaves] == [7, 3, 0]


def test_no_frames_are_refused():
    with pytest.raises(InvalidInput, match=r"shape \(n_frames, n_mels\), got \(0, 64\)"):
        pool_frames(np.zeros((0, 64)))


@pytest.mark.slow
def test_pooling_tells_the_classes_of_real_clips(shared_data):
    import csv

    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = shared_data / "esc10"
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    spec = FeatureSpec(n_fft=2048, hop_length=1000)
    vectors = []
    for row in rows:
        samples, rate = io.read_audio(folder / "audio" / row["fname"])
        vectors.append(pool_frames(features.compute(samples, rate, spec)[0].astype(np.float16)))
    x, y = np.array(vectors), np.array([row["label"] for row in rows])
    folds = np.array([row["fold"] for row in rows])
    right = []
    for fold in np.unique(folds):
        test = folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        right.append((model.fit(x[~test], y[~test]).predict(x[test]) == y[test]).mean())
    assert np.mean(right) > 0.87


def test_pooled_embeddings_are_those_of_the_spectrograms(project):
    store = compute(project, EmbeddingSpec())
    assert store.folder.parent == project.work / "embeddings"
    assert store.folder.name.startswith("pooled_mel-")
    matrix, usable = read_embeddings(project, EmbeddingSpec(), FEATURES, PATHS)
    assert usable.all() and matrix.dtype == np.float32
    for path, row in zip(PATHS, matrix, strict=True):
        frames, _ = features.compute(*io.read_audio(project.audio_dir / path), FEATURES)
        np.testing.assert_array_equal(row, pool_frames(frames.astype(np.float16)))
    _, other = read_embeddings(project, EmbeddingSpec(), FeatureSpec(), PATHS)
    assert not other.any()


# Plug-ins and windows.


def test_windows_cover_a_recording():
    mono = np.arange(10, dtype=np.float32)
    for window_s, hop_s, expected in (
        (0, 0, [[*range(10)]]),
        (5, 0, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]),
        (4, 3, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]),
        (4, 0, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]),
        (12, 0, [[*range(10), 0, 0]]),
    ):
        spec = EmbeddingSpec(window_s=float(window_s), hop_s=float(hop_s))
        np.testing.assert_array_equal(cut_windows(mono, 1, spec), expected)


@pytest.mark.parametrize("options", [{}, {"window_s": 0.3}, {"window_s": 0.5, "hop_s": 0.2}])
def test_a_plug_in_hears_windows_and_its_vectors_are_averaged(project, plug_in, options):
    write_tone(project.audio_dir / "3.wav", 700, seconds=1.4)
    name = plug_in()
    spec = EmbeddingSpec(embedder=name, sample_rate=8000, **options)
    store = compute(project, spec)
    matrix, there = store.read(PATHS)
    assert there.all() and store.dim == 40
    embed = sys.modules[name.split(":")[0]].embed
    for path, row in zip(PATHS, matrix, strict=True):
        mono = samples_of(project, path, 8000)
        length = round(8000 * options.get("window_s", 0)) or len(mono)
        hop = round(8000 * options.get("hop_s", 0)) or length
        starts = [0]
        while starts[-1] + length < len(mono):
            starts.append(starts[-1] + hop)
        windows = [
            np.pad(mono[s : s + length], (0, max(0, s + length - len(mono)))) for s in starts
        ]
        np.testing.assert_allclose(row, embed(np.array(windows)).mean(axis=0), rtol=1e-5)


def test_windows_of_many_clips_go_together_and_of_a_long_one_in_parts(plug_in, monkeypatch):
    seen = []

    def embed(windows):
        seen.append(len(windows))
        return windows[:, :3]

    clips = [np.full((n, 8), n, np.float32) for n in (1, 100, 70)]
    found = embed_clips(Embedder("e", 8000, embed), clips)
    assert seen == [64, 64, 43]
    np.testing.assert_array_equal(found, [[1] * 3, [100] * 3, [70] * 3])


def test_short_clips_share_a_batch(project, plug_in):
    name = plug_in()
    compute(project, EmbeddingSpec(embedder=name, sample_rate=8000, window_s=0.25))
    # Each of the four on trial, the first once more, and all six together.
    assert calls_of(name) == [(4, 2000)] * 5 + [(24, 2000)]


# HEAR.

HEAR = """
import torch
calls = []
class Model(torch.nn.Module):
    sample_rate = 4000
    scene_embedding_size = 5
    def __init__(self, path):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(100, 5)
        self.dropout = torch.nn.Dropout()
        if path:
            self.load_state_dict(torch.load(path))
def load_model(model_file_path=""):
    return Model(model_file_path)
def get_scene_embeddings(audio, model):
    assert audio.dtype == torch.float32 and audio.ndim == 2
    calls.append(tuple(audio.shape))
    return model.dropout(model.linear(audio[:, :100]))
"""


def test_hear_models_hear_at_their_own_rate(project, plug_in):
    module = plug_in(HEAR).split(":")[0]
    spec = EmbeddingSpec(embedder=f"hear:{module}", sample_rate=16000)
    matrix, there = compute(project, spec).read(PATHS)
    assert there.all() and calls_of(module)[0] == (1, 4000)
    model = sys.modules[module].load_model()
    weight, bias = (p.detach().numpy() for p in model.linear.parameters())
    for path, row in zip(PATHS, matrix, strict=True):
        mono = samples_of(project, path, 4000)
        np.testing.assert_allclose(row, mono[:100] @ weight.T + bias, atol=1e-5)


def test_weights_of_hear_are_loaded_and_part_of_the_key(project, plug_in, tmp_path):
    import torch

    module = plug_in(HEAR).split(":")[0]
    plain = compute(project, EmbeddingSpec(embedder=f"hear:{module}"))
    stores = []
    for value in (1.0, 2.0):
        model = sys.modules[module].load_model()
        torch.nn.init.constant_(model.linear.bias, value)
        torch.nn.init.zeros_(model.linear.weight)
        with torch.no_grad():
            model.linear.weight[0] = 1
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        spec = EmbeddingSpec(embedder=f"hear:{module}", weights=str(tmp_path / "weights.pt"))
        stores.append(compute(project, spec))
        np.testing.assert_allclose(stores[-1].read(PATHS)[0][:, 1:], value)
    assert len({store.folder for store in (plain, *stores)}) == 3


def test_modules_without_the_interface_of_hear_are_named(plug_in):
    module = plug_in("def load_model(path=''): pass\n").split(":")[0]
    with pytest.raises(InvalidInput, match="no function get_scene_embeddings as HEAR 2021"):
        load_hear(EmbeddingSpec(embedder=f"hear:{module}"))
    broken = (
        "def load_model(path=''): raise OSError('no weights')\ndef get_scene_embeddings(a, m): 0"
    )
    module = plug_in(broken).split(":")[0]
    with pytest.raises(InvalidInput, match=f"hear:{module}: no model could be loaded.*no weights"):
        load_hear(EmbeddingSpec(embedder=f"hear:{module}"))


# ONNX.


def write_onnx(path, shape, *, outputs=6, external=False):
    """A model that adds up its input in ``outputs`` parts of 100 samples each."""
    import onnx
    from onnx import helper, numpy_helper

    n = shape[-1] if isinstance(shape[-1], int) else 8000
    weights = np.zeros((n, outputs), np.float32)
    for k in range(outputs):
        weights[100 * k : 100 * k + 100, k] = 1
    if len(shape) == 3:
        first = helper.make_node("ReduceMean", ["audio"], ["flat"], axes=[1], keepdims=0)
    else:
        first = helper.make_node("Identity", ["audio"], ["flat"])
    graph = helper.make_graph(
        [first, helper.make_node("MatMul", ["flat", "weights"], ["embedding"])],
        "sums",
        [helper.make_tensor_value_info("audio", 1, shape)],
        [helper.make_tensor_value_info("embedding", 1, [shape[0], outputs])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(
        model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0
    )
    return f"onnx:{path}"


@pytest.mark.parametrize(
    "shape", [["b", 8000], ["b", 1, 8000], [1, 8000], [1, 1, "n"], ["b", "c", "n"]]
)
def test_onnx_models_hear_windows(project, tmp_path, shape):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    name = write_onnx(tmp_path / "model.onnx", shape)
    spec = EmbeddingSpec(embedder=name, sample_rate=16000, window_s=0.5)
    store = compute(project, spec)
    matrix, there = store.read(PATHS)
    assert there.all() and store.folder.name.startswith("model.onnx-")
    for path, row in zip(PATHS, matrix, strict=True):
        mono = samples_of(project, path, 16000)
        sums = [mono[s : s + 600].reshape(6, 100).sum(axis=1) for s in (0, 8000)]
        np.testing.assert_allclose(row, np.mean(sums, axis=0), atol=1e-3)


def test_another_onnx_file_has_another_cache(project, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folders = []
    for outputs, external in ((3, False), (4, False), (4, True), (5, True)):
        name = write_onnx(tmp_path / "m.onnx", ["b", 8000], outputs=outputs, external=external)
        store = compute(project, EmbeddingSpec(embedder=name, sample_rate=8000))
        assert store.read(PATHS)[0].shape == (6, outputs)
        folders.append(store.folder)
    assert len(set(folders)) == 4
    # Weights beside the graph count as well.
    data = tmp_path / "m.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    spec = EmbeddingSpec(embedder=name, sample_rate=8000)
    assert open_embeddings(project, spec, FEATURES).folder not in folders


def test_onnx_models_that_do_not_fit_are_named(project, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    name = write_onnx(tmp_path / "model.onnx", ["b", 4000])
    with pytest.raises(InvalidInput, match=r"4000 samples, not 8000; set window_s to 0.5 at 8000"):
        compute(project, EmbeddingSpec(embedder=name, sample_rate=8000))
    name = write_onnx(tmp_path / "stereo.onnx", ["b", 2, 8000])
    with pytest.raises(InvalidInput, match=r"input is tensor\(float\) \['b', 2, 8000\], wanted"):
        compute(project, EmbeddingSpec(embedder=name))
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(InvalidInput, match="is no readable ONNX model"):
        compute(project, EmbeddingSpec(embedder=f"onnx:{tmp_path / 'text.onnx'}"))
    with pytest.raises(InvalidInput, match=r"onnx:none.onnx: no such file; give the path"):
        compute(project, EmbeddingSpec(embedder="onnx:none.onnx"))


def test_without_onnxruntime_the_extra_is_named(project, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"a model")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        InvalidInput, match=r"needs onnxruntime, which is not installed; .*pip install onnxruntime "
    ):
        compute(project, EmbeddingSpec(embedder=f"onnx:{tmp_path / 'model.onnx'}"))


# What is checked.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return windows[:, 0]", r"returned float32 of shape \(1,\), wanted numbers of shape"),
        ("return windows[None, :, :9]", r"returned float32 of shape \(1, 1, 9\), wanted"),
        ("return windows[:, :0]", r"returned float32 of shape \(1, 0\), wanted"),
        ("return windows.astype(str)[:, :2]", r"returned <U.. of shape \(1, 2\), wanted numbers"),
        ("return windows[:0, :9]", "returned 0 rows for 1 windows"),
        ("return np.zeros((len(windows), 4))", "gives the same vector for every clip, 0.wav and"),
        ("return rng.random((len(windows), 4))", "is not deterministic: 0.wav twice gives two"),
        ("raise KeyError('layer 3')", r"failed on windows of shape \(1, 8000\): KeyError: 'layer"),
        ("calls.append(0); return windows[:, :len(calls)]", "changes its length: 2 numbers for"),
        (
            "return windows[:, :9] if len(windows) < 2 else windows[:, :8]",
            "changes its length: 8 numbers for 0.wav, 9 before",
        ),
    ],
)
def test_bad_embedders_are_refused_before_anything_is_kept(project, plug_in, body, message):
    head = "import numpy as np\nrng = np.random.default_rng(0)\ncalls = []\n"
    name = plug_in(f"{head}def embed(windows):\n    {body}\n")
    spec = EmbeddingSpec(embedder=name, sample_rate=8000)
    with pytest.raises(InvalidInput, match=message) as caught:
        compute(project, spec)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert not open_embeddings(project, spec, FEATURES).entries


@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
@pytest.mark.parametrize("window_s", [0.0, 0.25])
def test_a_clip_without_finite_numbers_is_left_out_and_named(
    project, plug_in, capsys, value, window_s
):
    write_tone(project.audio_dir / "3.wav", 1500, seconds=0.9)
    source = SPECTRUM.replace("astype(np.float32)", "astype(float)") + (
        "plain = embed\n"
        "def embed(windows):\n"
        "    found = plain(windows)\n"
        "    # Only the tone of 1500 Hz is loud there.\n"
        "    loud = np.abs(np.fft.rfft(windows[:, :256]))[:, 47:50].max(axis=1) > 10\n"
        f"    found[loud, 3] = float('{value}')\n"
        "    return found\n"
    )
    spec = EmbeddingSpec(embedder=plug_in(source), sample_rate=8000, window_s=window_s)
    store = compute(project, spec)
    matrix, usable = store.read(PATHS)
    assert usable.tolist() == [True, True, True, False, True, True]
    assert not matrix[3].any() and np.isfinite(matrix).all()
    assert store.entries["3.wav"].faults == ["not_finite"]
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 1 and said[0].startswith("3.wav: left out (own_embedder")
    # It is not tried again.
    assert compute(project, spec).missing(project.audio_dir, PATHS) == []


def test_a_length_that_changes_later_is_refused(project, plug_in):
    name = plug_in()
    spec = EmbeddingSpec(embedder=name, sample_rate=8000)
    compute(project, spec)
    sys.modules[name.split(":")[0]].embed = lambda windows: windows[:, :7]
    write_tone(project.audio_dir / "2.wav", 900)
    with pytest.raises(InvalidInput, match=r"length: 7 numbers for 2.wav, 40 before"):
        compute(project, spec)
    assert open_embeddings(project, spec, FEATURES).missing(project.audio_dir, PATHS) == ["2.wav"]


def test_one_clip_alone_may_have_any_vector():
    constant = Embedder("e", 8000, lambda windows: np.ones((len(windows), 2)))
    try_out(constant, ["a"], [np.zeros((1, 5))])
    with pytest.raises(InvalidInput, match="the same vector for every clip, a and b among them"):
        try_out(constant, ["a", "b"], [np.zeros((1, 5)), np.ones((1, 5))])


@pytest.mark.parametrize("name", ["poled_mel", "", "pooled"])
def test_unknown_embedders_are_named(project, name):
    with pytest.raises(UnknownName, match=f"no embedder called {name!r}"):
        compute(project, EmbeddingSpec(embedder=name))
    with pytest.raises(UnknownName, match=f"no embedder called {name!r}"):
        create_spec(EmbeddingSpec, {"embedder": name})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedder": "no_such_module:embed"}, "no embedder called 'no_such_module:embed'"),
        ({"embedder": "math:no_such_function"}, "no such function in the module"),
        ({"embedder": "hear:no_such_module"}, "no embedder called 'hear:no_such_module'"),
        (
            {"embedder": "math:pi", "weights": "w.pt"},
            "are for hear:MODULE, not for math:pi",
        ),
        ({"embedder": "hear:math", "weights": "w.pt"}, "weights: no such file w.pt"),
        ({"hop_s": 1.0}, "hop_s 1 needs a window_s above 0"),
        ({"hop_s": 2.0, "window_s": 1.0}, "hop_s 2 leaves gaps between windows of 1 s"),
    ],
)
def test_settings_without_a_meaning_are_named(project, options, message):
    with pytest.raises(InvalidInput, match=message):
        compute(project, EmbeddingSpec(**options))


def test_a_module_with_a_fault_is_named(project, plug_in):
    name = plug_in("def embed(windows)\n")
    with pytest.raises(InvalidInput, match=f"no embedder called '{name}': SyntaxError"):
        compute(project, EmbeddingSpec(embedder=name))


# The cache.


def test_what_is_cached_is_not_computed_again(project, plug_in):
    name = plug_in()
    spec = EmbeddingSpec(embedder=name, sample_rate=8000)
    first = compute(project, spec)
    done = len(calls_of(name))
    again = compute(project, spec)
    assert done and len(calls_of(name)) == done and again.folder == first.folder
    np.testing.assert_array_equal(again.read(PATHS)[0], first.read(PATHS)[0])


def test_only_a_changed_recording_is_computed_anew(project, plug_in):
    name = plug_in()
    spec = EmbeddingSpec(embedder=name, sample_rate=8000)
    before = compute(project, spec).read(PATHS)[0]
    calls_of(name).clear()
    write_tone(project.audio_dir / "0.wav", 1900)
    os.utime(project.audio_dir / "0.wav", ns=(1, 1))
    after = compute(project, spec).read(PATHS)[0]
    assert len(calls_of(name)) == 3  # Tried out twice, then embedded.
    assert (before[1:] == after[1:]).all() and (before[0] != after[0]).any()
    # Its label is not that of this sound.
    _, usable = read_embeddings(project, spec, FEATURES, PATHS)
    assert usable.tolist() == [False, True, True, True, True, True]


def test_the_same_bytes_are_embedded_once(project, plug_in):
    name = plug_in()
    spec = EmbeddingSpec(embedder=name, sample_rate=8000)
    store = compute(project, spec)
    size = store.frames_path.stat().st_size
    os.utime(project.audio_dir / "5.wav", ns=(1, 1))
    store = compute(project, spec)
    assert store.missing(project.audio_dir, PATHS) == []
    assert store.frames_path.stat().st_size == size == 6 * 40 * 4


@pytest.mark.parametrize("kind", ["pooled_mel", "plug-in"])
def test_a_stopped_run_goes_on_where_it_was(project, plug_in, kind):
    spec = EmbeddingSpec(embedder=plug_in() if kind == "plug-in" else kind, sample_rate=8000)
    whole = compute(project, spec)
    vectors, journal = whole.frames_path.read_bytes(), whole.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    # Killed while it wrote the fourth line, its vector being there already.
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    torn = open_embeddings(project, spec, FEATURES)
    left = [json.loads(line)["path"] for line in lines[3:]]
    assert sorted(torn.missing(project.audio_dir, PATHS)) == sorted(left)
    assert compute(project, spec).frames_path.read_bytes() == vectors
    assert len(journal.read_bytes().splitlines()) == 6
    # Vectors that were lost are computed again.
    whole.frames_path.write_bytes(vectors[: len(vectors) // 2])
    assert compute(project, spec).frames_path.read_bytes() == vectors


def test_what_was_done_when_an_embedder_failed_is_kept(project, plug_in):
    source = SPECTRUM.replace(
        "calls.append(windows.shape)",
        "calls.append(windows.shape)\n    if len(calls) == fail_at: raise OSError('no memory')",
    )
    name = plug_in(source + "fail_at = 0\n")
    for k in range(6):  # Each clip a batch of its own.
        write_tone(project.audio_dir / f"{k}.wav", 300 + 400 * k, seconds=1 + 0.1 * k)
    spec = EmbeddingSpec(embedder=name, sample_rate=8000)
    open_embeddings(project, spec, FEATURES)
    module = sys.modules[name.split(":")[0]]
    module.fail_at = 5 + 4
    with pytest.raises(InvalidInput, match=r"failed on windows of .*: OSError: no memory"):
        compute(project, spec)
    left = open_embeddings(project, spec, FEATURES).missing(project.audio_dir, PATHS)
    assert left == ["3.wav", "4.wav", "5.wav"]
    module.fail_at = 0
    module.calls.clear()
    store = compute(project, spec)
    assert store.missing(project.audio_dir, PATHS) == [] and len(module.calls) == 4 + 3
    expected = [module.embed(samples_of(project, path, 8000)[None])[0] for path in PATHS]
    np.testing.assert_allclose(store.read(PATHS)[0], expected, rtol=1e-5)


def test_every_setting_and_source_has_its_own_cache(project, plug_in, tmp_path):
    name = plug_in()
    specs = [
        EmbeddingSpec(embedder=name, **options)
        for options in (
            {},
            {"sample_rate": 8000},
            {"window_s": 0.5},
            {"window_s": 0.5, "hop_s": 0.2},
        )
    ]
    folders = [open_embeddings(project, spec, FEATURES).folder for spec in specs]
    # Spectrograms have no part in it, unlike in pooled ones.
    folders.append(open_embeddings(project, specs[0], FeatureSpec()).folder)
    assert len(set(folders)) == 4 and folders[-1] == folders[0]
    source = tmp_path / f"{name.split(':')[0]}.py"
    source.write_text(source.read_text() + "# changed\n")
    folders.append(open_embeddings(project, specs[0], FEATURES).folder)
    sys.modules[name.split(":")[0]].__version__ = "2.0"
    folders.append(open_embeddings(project, specs[0], FEATURES).folder)
    assert len(set(folders)) == 6
    pooled = [
        open_embeddings(project, EmbeddingSpec(), f).folder for f in (FEATURES, FeatureSpec())
    ]
    assert len(set(pooled)) == 2
    unheard = EmbeddingSpec(sample_rate=8000, window_s=1.0)
    assert open_embeddings(project, unheard, FEATURES).folder == pooled[0]


def test_two_processes_do_not_write_the_same_embeddings(project):
    project.store.timeout_s = 0.1
    with (
        open_embeddings(project, EmbeddingSpec(), FEATURES).writing(),
        pytest.raises(StoreBusy, match="in use by PID"),
    ):
        compute(project, EmbeddingSpec())


@pytest.mark.parametrize("kind", ["pooled_mel", "plug-in"])
def test_a_bad_recording_costs_only_itself(project, plug_in, kind):
    (project.audio_dir / "1.wav").write_text("this is no recording")
    (project.audio_dir / "4.wav").unlink()
    project.max_missing = 0.5
    spec = EmbeddingSpec(embedder=plug_in() if kind == "plug-in" else kind)
    store = compute(project, spec)
    matrix, usable = read_embeddings(project, spec, FEATURES, [*PATHS, "never_imported.wav"])
    assert usable.tolist() == [True, False, True, True, False, True, False]
    assert (matrix.any(axis=1) == usable).all()
    assert store.entries["1.wav"].faults == ["unreadable"]
    assert store.entries["4.wav"].faults == ["missing"]
    assert store.missing(project.audio_dir, PATHS) == []


def test_an_empty_store_has_no_vectors(tmp_path):
    matrix, usable = EmbeddingStore(tmp_path, "e", {}).read(["a", "b"])
    assert matrix.shape == (2, 0) and not usable.any()


# Vectors of one's own.


def compute_own(project, file):
    return compute_embeddings(project, EmbeddingSpec(embedder=f"vectors:{file}"), FEATURES)


def test_vectors_of_a_file_are_taken(project, tmp_path, capsys):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 3))
    vectors[4, 1] = np.nan
    order = [3, 0, 4, 1, 2]
    file = tmp_path / "mine.npz"
    paths = [*(PATHS[k] for k in order), "other.wav"]
    np.savez(file, paths=paths, embeddings=np.vstack([vectors[order], np.zeros(3)]))
    store = compute_own(project, file)
    assert store.folder.name.startswith("mine-")
    spec = EmbeddingSpec(embedder=f"vectors:{file}")
    matrix, usable = read_embeddings(project, spec, FEATURES, PATHS)
    assert usable.tolist() == [True, True, True, True, False, False]
    np.testing.assert_array_equal(matrix[:4], vectors[:4].astype(np.float32))
    said = capsys.readouterr().err
    assert "1 paths are no clips of this project: other.wav" in said
    assert "4.wav: left out" in said and store.entries["5.wav"].faults == ["no_vector"]
    # Without paths, one row a clip by their sorted paths.
    np.save(tmp_path / "mine.npy", vectors)
    matrix = compute_own(project, tmp_path / "mine.npy").read(PATHS)[0]
    np.testing.assert_array_equal(matrix[[0, 5]], vectors[[0, 5]].astype(np.float32))


def test_vectors_need_no_audio(tmp_path):
    (tmp_path / "audio").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "audio")
    rows = [(f"{k}.wav", f"c{k % 2}") for k in range(4)]
    source = write_csv(tmp_path / "all.csv", ("fname", "label"), rows)
    import_labels(project, source, "csv", FormatSpec(), metadata_only=True)
    shutil.rmtree(project.audio_dir)
    np.save(tmp_path / "mine.npy", np.arange(8).reshape(4, 2))
    compute_own(project, tmp_path / "mine.npy")
    spec = EmbeddingSpec(embedder=f"vectors:{tmp_path / 'mine.npy'}")
    matrix, usable = read_embeddings(project, spec, FEATURES, ["3.wav", "1.wav"])
    assert usable.all() and matrix.tolist() == [[6, 7], [2, 3]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"paths": ["a.wav"], "embeddings": np.ones((1, 2))}, "none of its 1 paths is a clip"),
        ({"paths": ["0.wav"], "embeddings": np.ones((2, 2))}, "1 paths for 2 embeddings"),
        ({"paths": ["0.wav", "0.wav"], "embeddings": np.ones((2, 2))}, "0.wav is there twice"),
        ({"embeddings": np.ones((2, 2))}, "wanted .npz with paths"),
        ({"paths": ["0.wav"], "embeddings": np.ones(2)}, r"are float64 of shape \(2,\), wanted"),
        ({"paths": np.array(["0.wav"], object), "embeddings": np.ones((1, 2))}, "wanted .npz"),
    ],
)
def test_files_of_vectors_that_do_not_fit_are_named(project, tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InvalidInput, match=message) as caught:
        compute_own(project, tmp_path / "mine.npz")
    assert "mine.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_files_without_vectors_are_named(project, tmp_path):
    np.save(tmp_path / "five.npy", np.ones((5, 2)))
    with pytest.raises(InvalidInput, match=r"five.npy has 5 rows, the project 6 clips"):
        compute_own(project, tmp_path / "five.npy")
    (tmp_path / "text.npy").write_text("1, 2, 3")
    with pytest.raises(InvalidInput, match=r"text.npy: .*wanted .npz"):
        compute_own(project, tmp_path / "text.npy")
    for take in (read_vectors, lambda file: compute_own(project, file)):
        with pytest.raises(InvalidInput, match="no such file"):
            take(tmp_path / "none.npz")


# Neighbours of one clip.


def test_the_nearest_clips_come_first(project, tmp_path):
    angles = np.radians([0, 90, 20, 180, 10, 45])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]) * np.arange(1, 7)[:, None]
    np.save(tmp_path / "mine.npy", vectors)
    spec = EmbeddingSpec(embedder=f"vectors:{tmp_path / 'mine.npy'}")
    rows = similar(project, "0.wav", spec=spec, feature_spec=FEATURES, k=4)
    assert [row.path for row in rows] == ["4.wav", "2.wav", "5.wav", "1.wav"]
    expected = np.cos(np.radians([10, 20, 45, 90]))
    np.testing.assert_allclose([row.similarity for row in rows], expected, atol=1e-4)
    assert [row.same_source for row in rows] == [False, False, False, True]
    assert rows[0].labels == ["c0"] and rows[0].state == "unverified"
    assert len(similar(project, "0.wav", spec=spec, feature_spec=FEATURES, k=99)) == 5


def test_low_tones_sound_like_low_tones(project):
    rows = similar(project, "2.wav", spec=EmbeddingSpec(), feature_spec=FEATURES, k=2, workers=1)
    assert {row.path for row in rows} == {"0.wav", "4.wav"}
    assert {row.labels[0] for row in rows} == {"c0"}


def test_clips_nobody_can_compare_are_named(project, plug_in):
    spec = EmbeddingSpec(embedder=plug_in())
    (project.audio_dir / "1.wav").unlink()
    project.max_missing = 0.5
    options = {"spec": spec, "feature_spec": FEATURES, "workers": 1}
    with pytest.raises(InvalidInput, match=r"no clip 'nine.wav' in this project"):
        similar(project, "nine.wav", **options)
    with pytest.raises(InvalidInput, match=r"1.wav has no embedding by own_embedder"):
        similar(project, "1.wav", **options)
    with pytest.raises(InvalidInput, match="k must be at least 1, got 0"):
        similar(project, "0.wav", **options, k=0)
    rows = similar(project, "0.wav", **options)
    assert len(rows) == 4 and "1.wav" not in [row.path for row in rows]


def test_modules_are_told_apart_by_version_and_source():
    assert embedding.identify_module(np)[0] == np.__version__
    assert embedding.identify_module(sys.modules["math"])[0] == ""
