"""Copies of clips are found, and clips that only sound alike are not."""

import sys

import numpy as np
import pytest

from labelkit.audio.features import compute
from labelkit.config import FeatureSpec
from labelkit.datasets.demo import SAMPLE_RATE, SOUNDS, synthesise
from labelkit.errors import InvalidInput
from labelkit.noise.similarity import correlate_pairs, find_near_duplicates
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import near_duplicates as bench  # noqa: E402

sys.path.remove(str(BENCHMARKS))


def frames_of(mono, **options):
    spec = FeatureSpec(sample_rate=SAMPLE_RATE, n_fft=512, hop_length=200, n_mels=32, **options)
    return compute(np.asarray(mono, np.float32)[:, None], SAMPLE_RATE, spec)[0]


@pytest.fixture(scope="module")
def sounds():
    """Two of each demonstration sound, and ten times rain, which always sounds the same."""
    rng = np.random.default_rng(0)
    rain = 0.05 * rng.standard_normal((10, 3 * SAMPLE_RATE))
    return [synthesise(name, rng) for name in sorted(SOUNDS) * 2] + list(rain)


@pytest.fixture(scope="module")
def spectrograms(sounds):
    return [frames_of(sound) for sound in sounds]


@pytest.mark.slow
@pytest.mark.parametrize("kind", bench.KINDS)
def test_copies_are_found_and_nothing_else(kind, sounds, spectrograms):
    copies = [
        frames_of(bench.copy(sound, SAMPLE_RATE, kind, np.random.default_rng(n)))
        for n, sound in enumerate(sounds)
    ]
    pairs, similarity = find_near_duplicates([*spectrograms, *copies])
    n = len(sounds)
    assert set(map(tuple, pairs)) == {(i, i + n) for i in range(n)}
    assert (np.diff(similarity) <= 0).all() and similarity[-1] >= 0.5 and similarity[0] <= 1
    if kind == "exact":
        np.testing.assert_allclose(similarity, 1, atol=1e-5)


def test_clips_that_sound_alike_are_no_copies(spectrograms):
    pairs, similarity = find_near_duplicates(spectrograms)
    assert pairs.shape == (0, 2) and similarity.shape == (0,)


def test_correlation_against_a_loop_over_lags():
    rng = np.random.default_rng(0)
    a, b = rng.normal(-30, 4, (2, 60, 8))
    b[:45] = a[10:55] + rng.normal(0, 2, (45, 8))

    def texture(x):
        for axis, half in ((0, 4), (1, 3)):
            edges = [(half, half) if axis == k else (0, 0) for k in (0, 1)]
            padded = np.pad(x, edges, mode="edge")
            windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis)
            x = x - windows.mean(axis=-1)
        return np.clip(x / np.sqrt((x**2).mean()), -2, 2)

    x, y = texture(a), texture(b)
    found = []
    # At least half of the frames lie over each other: here 30.
    for lag in range(-30, 31):
        left, right = (x[lag:], y[: 60 - lag]) if lag >= 0 else (x[: 60 + lag], y[-lag:])
        found.append((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))
    assert np.argmax(found) == 40
    assert correlate_pairs([a, b], np.array([[0, 1]])) == pytest.approx(max(found), abs=1e-4)


def test_order_and_gain_do_not_matter(spectrograms):
    clips = [*spectrograms[:8], *(clip[30:] - 9 for clip in spectrograms[:8])]
    order = np.random.default_rng(1).permutation(16)
    pairs, similarity = find_near_duplicates(clips)
    assert len(pairs) == 8 and (similarity > 0.9).all()
    moved, again = find_near_duplicates([clips[n] for n in order])
    assert {frozenset(pair) for pair in order[moved]} == {frozenset(pair) for pair in pairs}
    np.testing.assert_allclose(again, similarity, atol=1e-4)


def test_half_a_frame_between_copies(sounds):
    rain = sounds[-1]
    # Half a hop later: no frame of one clip is a frame of the other.
    pair = [frames_of(rain), frames_of(rain[100:])]
    whole = [frames_of(rain), frames_of(rain[200:])]
    other = [frames_of(rain), frames_of(sounds[-2])]
    low, high, chance = (correlate_pairs(p, np.array([[0, 1]]))[0] for p in (pair, whole, other))
    assert chance < 0.2 < 0.6 < low < 0.95 < high


def test_pairs_of_one_group_are_left_out(spectrograms):
    clips = [*spectrograms[:3], *spectrograms[:3]]
    pairs, _ = find_near_duplicates(clips, groups=np.array([0, 1, -1, 0, 2, -1]))
    assert sorted(map(tuple, pairs)) == [(1, 4), (2, 5)]


def test_clips_of_any_length_in_one_set(spectrograms):
    clip = np.concatenate([spectrograms[n] for n in (0, 5, 20)])
    clips = [clip, spectrograms[3], clip[:-40], clip[:0], spectrograms[3][20:]]
    pairs, _ = find_near_duplicates(clips)
    assert sorted(map(tuple, pairs)) == [(0, 2), (1, 4)]


def test_silence_is_nobodys_copy_and_a_beep_only_if_it_is_the_same():
    silent, beep = np.full((50, 8), -100.0), np.full((50, 8), -60.0)
    beep[:, 3] = -10
    pairs, similarity = find_near_duplicates([silent, beep, silent, beep, beep + 1])
    assert pairs.tolist() == [[1, 3]] and similarity.tolist() == [1]


def test_float16_and_its_digital_silence(spectrograms):
    padded = [np.pad(clip, ((0, 80), (0, 0)), constant_values=-100) for clip in spectrograms]
    clips = np.array([*padded[:10], *(np.roll(clip, 37, axis=0) for clip in padded[:10])])
    pairs, _ = find_near_duplicates(clips.astype(np.float16))
    assert sorted(map(tuple, pairs)) == [(n, n + 10) for n in range(10)]


def test_bad_input_is_one_line():
    clip = np.random.default_rng(0).normal(-40, 5, (30, 8))
    assert find_near_duplicates([])[0].shape == (0, 2) == find_near_duplicates([clip])[0].shape
    with pytest.raises(InvalidInput, match=r"clip 1 have shape \(30, 7\)"):
        find_near_duplicates([clip, clip[:, :7]])
    with pytest.raises(InvalidInput, match="clip 1 hold NaN"):
        find_near_duplicates([clip, clip * np.nan])
    with pytest.raises(InvalidInput, match="threshold"):
        find_near_duplicates([clip, clip], threshold=0)
    with pytest.raises(InvalidInput, match="n_candidates"):
        find_near_duplicates([clip, clip], n_candidates=0)


@pytest.mark.slow
def test_copies_of_real_clips_are_found_again(shared_data):
    folder = shared_data / "esc10"
    rows = bench.read_rows(folder)
    originals = [bench.spectrogram((folder / "audio" / row["fname"], None, ())) for row in rows]
    frames, kinds = bench.plant(folder, originals, seed=6)
    recall, planted, wrong, shared = bench.judge(folder, find_near_duplicates(frames)[0], kinds)
    assert recall["exact"] == recall["gain"] == 1
    assert min(recall[kind] for kind in ("ogg", "mp3", "zeroed")) >= 0.95
    assert np.mean([recall[f"crop_{side}"] for side in ("begin", "end", "both")]) >= 0.95
    assert planted >= 0.99 * (planted + wrong)
    # ESC-10 has copies of its own under two Freesound numbers.
    named = {tuple(rows[clip]["fname"] for clip in pair) for pair in shared}
    assert ("2-28314-A.ogg", "2-30322-A.ogg") in named
