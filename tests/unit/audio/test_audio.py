"""Decoding, faults, spectrograms, and their cache."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from labelkit.audio import batched, faults, io, ogg
from labelkit.audio.compat import import_torchaudio
from labelkit.audio.features import check_spec
from labelkit.audio.source import Source
from labelkit.config import FeatureSpec, read_recipe
from labelkit.errors import InvalidInput, RecordingsGone, StoreBusy
from labelkit.recordings import checking
from labelkit.recordings.features import compute_features
from labelkit.recordings.fitting import settle
from labelkit.recordings.usable import unusable
from labelkit.stores.arrays import FeatureStore
from tests.support.clips import write_csv, write_tone

FORMATS = [
    ("wav", "PCM_U8"), ("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_32"), ("wav", "FLOAT"),
    ("flac", "PCM_16"), ("flac", "PCM_24"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize(("ending", "subtype"), FORMATS)
def test_every_format_decodes_to_the_same_tone(tmp_path, ending, subtype, rate, channels):
    path = tmp_path / f"tone.{ending}"
    t = np.arange(rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(path, np.column_stack([tone] * channels), rate, subtype=subtype)
    samples, found_rate = io.read_audio(path)
    assert found_rate == rate and samples.shape[1] == channels and samples.dtype == np.float32
    mono = io.to_mono(samples, rate, 16000)
    assert abs(len(mono) - 16000) <= 0.1 * 16000
    spectrum = np.abs(np.fft.rfft(mono[:16000] * np.hanning(len(mono[:16000]))))
    peak_hz = spectrum.argmax() * 16000 / len(mono[:16000])
    assert peak_hz == pytest.approx(440, abs=3)
    assert faults.inspect(path).faults == []


def test_channels_are_averaged():
    samples = np.column_stack([np.full(100, 0.2), np.full(100, 0.6)]).astype(np.float32)
    np.testing.assert_allclose(io.to_mono(samples, 8000, 8000), 0.4, atol=1e-6)


def test_trim_cuts_silent_edges_only():
    rate = 16000
    loud = np.random.default_rng(0).standard_normal(rate).astype(np.float32)
    padded = np.concatenate([np.zeros(rate), loud, np.zeros(rate)]).astype(np.float32)
    assert io.find_sound(padded, 60) == pytest.approx((rate, 2 * rate), abs=2048)
    assert io.find_sound(padded, 0) == (0, 3 * rate)


@pytest.fixture
def broken(tmp_path):
    """One file of each fault, and a sound one."""
    rate, rng = 16000, np.random.default_rng(0)
    noise = 0.2 * rng.standard_normal((2 * rate, 1))
    soundfile.write(tmp_path / "sound.wav", noise, rate)
    (tmp_path / "unreadable.wav").write_text("this is a text file, not a recording\n" * 50)
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "empty2.wav", np.zeros((0, 1)), rate)
    soundfile.write(tmp_path / "silent.wav", np.full((rate, 1), 1e-5), rate, subtype="FLOAT")
    soundfile.write(tmp_path / "clipped.wav", np.clip(20 * noise, -1, 1), rate)
    soundfile.write(tmp_path / "short.wav", noise[:4000], rate)
    for ending in ("ogg", "wav", "flac"):
        whole = tmp_path / f"whole.{ending}"
        soundfile.write(whole, noise, rate)
        data = whole.read_bytes()
        (tmp_path / f"truncated.{ending}").write_bytes(data[: len(data) * 2 // 3])
        whole.unlink()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sound.wav", []), ("unreadable.wav", ["unreadable"]), ("empty.wav", ["empty"]),
        ("empty2.wav", ["empty"]), ("silent.wav", ["silent"]), ("clipped.wav", ["clipped"]),
        ("short.wav", ["short"]), ("truncated.ogg", ["truncated"]),
        ("truncated.wav", ["truncated"]), ("truncated.flac", ["truncated"]),
        ("nowhere.wav", ["missing"]),
    ],
)  # fmt: skip
def test_faults_are_named(broken, name, expected):
    assert faults.inspect(broken / name, window_s=0.5).faults == expected


def test_every_real_ogg_that_was_cut_off_is_told_and_heard(shared_data, tmp_path):
    for clip in sorted((shared_data / "esc10" / "audio").iterdir())[:30]:
        data = clip.read_bytes()
        with clip.open("rb") as file:
            [link] = ogg.find_links(Source(file))
            assert link.ended and not link.damaged
            assert ogg.make_pieces(Source(file), link) == [(0, len(data))]
        whole, _ = soundfile.read(clip)
        for share in (0.5, 0.95):
            path = tmp_path / "cut.ogg"
            path.write_bytes(data[: int(share * len(data))])
            found = faults.inspect(path).faults
            samples, _ = io.read_audio(path)
            assert "truncated" in found and len(samples) > 0.02 * len(whole)
            half = len(samples) // 2
            np.testing.assert_allclose(samples[:half, 0], whole[:half], atol=1e-6)


def test_a_replaced_recording_is_told_and_left_out(tone_project):
    paths, recipe = import_all(tone_project), read_recipe("quick", ["input.frames=16"])
    shutil.copy(tone_project.audio_dir / "0.wav", tone_project.audio_dir / "1.wav")
    rows = checking.check(tone_project, recipe, workers=1)
    told = {(row.path, row.issue): row.used for row in rows}
    assert told["1.wav", "changed"] is False and told["0.wav", "exact_duplicate"] is True
    store = compute_features(tone_project, recipe.features, workers=1)
    with tone_project.store.read() as session:
        assert unusable(store, session.labels()) == {"1.wav": "changed"}
    assert len(paths) == 6


def test_a_missing_audio_folder_is_named(tone_project):
    import_all(tone_project)
    tone_project.audio_dir.rename(tone_project.audio_dir.with_name("gone"))
    recipe = read_recipe("quick")
    for job, what in ((checking.check, recipe), (compute_features, recipe.features)):
        with pytest.raises(RecordingsGone, match=r"audio folder .*/audio is not there"):
            job(tone_project, what, workers=1)


def test_infinite_samples_are_full_scale(tmp_path):
    samples = np.full((8000, 1), 0.1, np.float32)
    samples[100:3000] = np.inf
    samples[5000] = np.nan
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="FLOAT")
    found, _ = io.read_audio(tmp_path / "x.wav")
    assert found.max() == 1 and found[5000] == 0
    assert faults.inspect(tmp_path / "x.wav").faults == ["no_numbers", "clipped"]


def test_what_is_left_of_a_truncated_file_is_used(broken):
    samples, rate = io.read_audio(broken / "truncated.ogg")
    assert len(samples) > 0.3 * rate


@pytest.mark.parametrize("options", [{"fmax_hz": 9000.0}, {"fmin_hz": 8000.0}])
def test_impossible_bands_are_refused(options):
    with pytest.raises(InvalidInput, match="does not hold"):
        check_spec(FeatureSpec(sample_rate=16000, **options))


def import_all(project):
    paths = sorted(p.name for p in project.audio_dir.iterdir())
    source = write_csv(
        project.root / "all.csv",
        ("fname", "label"),
        [(p, f"c{k % 2}") for k, p in enumerate(paths)],
    )
    from labelkit.config import FormatSpec
    from labelkit.labels.importing import import_labels

    import_labels(project, source, "csv", FormatSpec())
    return paths


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_cost_only_themselves(broken, tmp_path_factory, workers):
    from labelkit.project import create_project

    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in broken.iterdir()}
    root = tmp_path_factory.mktemp("project")
    project, _ = create_project(root, broken)
    paths = import_all(project)
    store = compute_features(project, read_recipe("quick").features, workers=workers)
    assert sorted(store.entries) == paths
    with project.store.read() as session:
        left_out = unusable(store, session.labels())
    assert left_out == {
        "empty.wav": "empty", "empty2.wav": "empty", "silent.wav": "silent",
        "unreadable.wav": "unreadable",
    }  # fmt: skip
    rows = checking.check(project, read_recipe("quick", ["input.frames=16"]), workers=workers)
    assert {row.path for row in rows if not row.used} == set(left_out)
    assert {row.issue for row in rows} == {
        "empty", "silent", "unreadable", "clipped", "short", "truncated", "near_duplicate"
    }  # fmt: skip
    # The user's folder is as it was.
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in broken.iterdir()} == before


def test_twins_are_listed(tone_project):
    shutil.copy(tone_project.audio_dir / "0.wav", tone_project.audio_dir / "copy.wav")
    import_all(tone_project)
    rows = checking.check(tone_project, read_recipe("quick", ["input.frames=16"]), workers=1)
    twins = {row.path: row.reason for row in rows if row.issue == "exact_duplicate"}
    assert sorted(twins) == ["0.wav", "copy.wav"] and "copy.wav" in twins["0.wav"]
    store = compute_features(tone_project, read_recipe("quick").features, workers=1)
    assert store.entries["0.wav"].start == store.entries["copy.wav"].start


def test_a_stopped_run_goes_on_where_it_was(tone_project):
    paths, recipe = import_all(tone_project), read_recipe("quick")
    whole = compute_features(tone_project, recipe.features, workers=1)
    frames = np.fromfile(whole.frames_path, np.float16)
    journal = whole.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    # Killed while it wrote the fourth line, its frames being there already.
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    torn = FeatureStore(tone_project.features, whole.spec)
    assert sorted(torn.missing(tone_project.audio_dir, paths)) == sorted(
        json.loads(line)["path"] for line in lines[3:]
    )
    again = compute_features(tone_project, recipe.features, workers=1)
    assert again.missing(tone_project.audio_dir, paths) == []
    assert (np.fromfile(again.frames_path, np.float16) == frames).all()
    assert len(journal.read_bytes().splitlines()) == len(lines)


@pytest.mark.parametrize("left", [0, 0.5])
def test_lost_frames_are_computed_again(tone_project, left):
    paths, recipe = import_all(tone_project), read_recipe("quick")
    whole = compute_features(tone_project, recipe.features, workers=1)
    frames = whole.frames_path.read_bytes()
    whole.frames_path.write_bytes(frames[: int(left * len(frames))])
    again = compute_features(tone_project, recipe.features, workers=1)
    assert again.frames_path.read_bytes() == frames
    assert again.missing(tone_project.audio_dir, paths) == []


def test_a_changed_recording_is_read_again(tone_project):
    paths, recipe = import_all(tone_project), read_recipe("quick")
    store = compute_features(tone_project, recipe.features, workers=1)
    old = store.entries["0.wav"]
    write_tone(tone_project.audio_dir / "0.wav", 2000, seconds=1.5)
    os.utime(tone_project.audio_dir / "0.wav", ns=(1, 1))
    assert FeatureStore(tone_project.features, store.spec).missing(
        tone_project.audio_dir, paths
    ) == ["0.wav"]
    new = compute_features(tone_project, recipe.features, workers=1).entries["0.wav"]
    assert new.content_hash != old.content_hash and new.length > old.length


def test_every_parameter_has_its_own_cache(tone_project):
    import_all(tone_project)
    folders = {
        compute_features(tone_project, read_recipe("quick", settings).features, workers=1).folder
        for settings in ([], ["features.n_mels=20"], ["features.trim_db=30"], ["pretrain.epochs=1"])
    }
    assert len(folders) == 3


def test_two_processes_do_not_write_the_same_features(tone_project):
    import_all(tone_project)
    store = FeatureStore(tone_project.features, settle(tone_project, read_recipe("quick").features))
    tone_project.store.timeout_s = 0.1
    with store.writing(), pytest.raises(StoreBusy, match="in use by PID"):
        compute_features(tone_project, read_recipe("quick").features, workers=1)


def test_torchaudio_imports_beside_any_torch():
    torchaudio = import_torchaudio()
    import torch

    mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, n_mels=20)
    assert mel(torch.randn(16000)).shape[0] == 20
    assert torchaudio.functional.compute_deltas(torch.randn(1, 4, 10)).shape == (1, 4, 10)


def test_real_clips_are_sound(shared_data):
    audio = shared_data / "esc10" / "audio"
    found = {p.name: faults.inspect(p).faults for p in sorted(audio.iterdir())[:40]}
    assert not [name for name, names in found.items() if set(names) & set(faults.UNUSABLE)]


@pytest.mark.parametrize("kind", ["log_mel", "perceptual_mel"])
def test_spectrograms_in_batches_are_the_same(tone_project, monkeypatch, kind):
    on_cpu = batched.compute_batch
    monkeypatch.setattr(batched, "compute_batch", lambda waves, spec, device: on_cpu(waves, spec))
    (tone_project.audio_dir / "3.wav").write_bytes(b"no sound")
    import_all(tone_project)
    spec = read_recipe("quick", [f"features.kind={kind}", "features.min_s=1.5"]).features
    alone = compute_features(tone_project, spec, workers=1)
    matrix = np.fromfile(alone.frames_path, np.float16).reshape(-1, spec.n_mels)
    entries = dict(alone.entries)
    shutil.rmtree(tone_project.features)
    together = compute_features(tone_project, spec, workers=1, device="cuda")
    second = np.fromfile(together.frames_path, np.float16).reshape(-1, spec.n_mels)
    assert together.entries.keys() == entries.keys()
    for path, entry in together.entries.items():
        assert (entry.length, entry.faults, entry.start_s) == (
            entries[path].length, entries[path].faults, entries[path].start_s,
        )  # fmt: skip
        a = matrix[entries[path].start :][: entry.length].astype(np.float32)
        b = second[entry.start :][: entry.length].astype(np.float32)
        np.testing.assert_allclose(a, b, atol=0.07)  # One step of float16 at 100 dB.
        if kind == "log_mel" and entry.length:
            assert (np.abs(a - b) < 1e-3)[a > a.max() - 60].mean() > 0.99
        assert entry.length or path == "3.wav"
    assert entries["0.wav"].start_s == pytest.approx(-0.25, abs=1e-3)
