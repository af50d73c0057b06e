"""Every recording is heard whole, whatever its header says, and what is missing is told."""

import os
import re

import numpy as np
import pytest
import soundfile
import soxr

from labelkit.audio import faults, io, pyav
from labelkit.audio.source import Pieced
from labelkit.errors import InvalidInput
from tests.support import recordings
from tests.support.recordings import (
    CUT,
    KINDS,
    NOT_OF_FFMPEG,
    RATE,
    agreement,
    heard,
    make_recording,
)
from tests.support.requirements import absent

LOSSLESS = ("wav", "RF64", "Wave64", "AIFF", "AIFF-C", "AU", "CAF", "FLAC", "ALAC")
WHOLE = [kind for kind in KINDS if kind not in CUT]
# As they come from the field: stereo, at other rates.
OTHERS = [
    (kind, channels, rate)
    for kind in (
        "wav of SoX, piped", "FLAC of ffmpeg, piped", "mp3 of ffmpeg, piped", "mp3 of LAME, VBR",
        "mp3 VBR without Xing", "mp3 of LAME without Xing", "wav, data of 0 bytes",
        "mp3, Xing of a third", "mp3, Xing of 0 frames", "Opus, header says 0 Hz",
        "AAC in MPEG-4", "FLAC in Ogg", "wav of Android",
        "MPEG layer II", "CAF of ffmpeg, piped",
    )
    for channels, rate in ((2, 44100), (1, 48000), (2, 32000))
]  # fmt: skip


@pytest.fixture(autouse=True)
def _tools():
    missing = recordings.missing_tools()
    if missing:
        absent("decoders", f"{', '.join(missing)} is not installed")


def decode(path):
    recording = io.Recording(path)
    nothing = np.zeros((0, recording.channels), np.float32)
    return np.concatenate([nothing, *recording.blocks()]), recording


def check_whole(path, kind, channels=1):
    samples, recording = decode(path)
    assert recording.channels == channels and not recording.lacks
    assert "truncated" not in faults.inspect(path).faults
    assert io.duration_s(path) * recording.rate == pytest.approx(len(samples), abs=1)
    if kind in NOT_OF_FFMPEG:
        expected = make_again(path.with_name("again.wav"), NOT_OF_FFMPEG[kind], channels)
    else:
        expected = heard(path, recording.rate, channels)
    is_lossless = re.split("[ ,]", kind)[0] in LOSSLESS and "ADPCM" not in kind
    assert abs(len(samples) - len(expected)) <= (0 if is_lossless else 1152 + 577)
    lowest, *others = agreement(samples[:, -1], expected[:, -1])
    # The first is compared with the source itself, of the others resamplers keep other highs.
    # Where parts were joined decoders differ by some samples.
    close = 0.97 if "two rates" in kind else 0.99 if "free rate" in kind else 0.999
    assert min(others) > close
    assert lowest > close or {"joined", "chained", "Xing", "WebM"} & set(kind.split())


def make_again(path, parts, channels):
    """The sound itself, at the rate of its first part."""
    found = []
    for k, (seconds, rate) in enumerate(parts):
        recordings.make_source(path, seconds, rate, channels, k)
        samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
        found.append(soxr.resample(samples, rate, parts[0][1]))
    return np.concatenate(found)


@pytest.mark.parametrize("kind", WHOLE)
def test_it_is_heard_as_ffmpeg_hears_it(tmp_path, kind):
    check_whole(make_recording(kind, tmp_path), kind)


@pytest.mark.parametrize(("kind", "channels", "rate"), OTHERS)
def test_so_it_is_of_several_channels_and_other_rates(tmp_path, kind, channels, rate):
    check_whole(make_recording(kind, tmp_path, channels, rate), kind, channels)


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_lacks_something_is_told_and_used(tmp_path, kind, channels):
    rate = 24000 if "garbage" in kind else 44100
    path = make_recording(kind, tmp_path, channels, rate if channels == 2 else RATE)
    channels = 1 if ("one more" in kind and "half" in kind) or "most" in kind else channels
    samples, recording = decode(path)
    assert recording.lacks and "truncated" in faults.inspect(path).faults
    assert io.duration_s(path) * recording.rate == pytest.approx(len(samples), abs=1)
    expected = heard(path, recording.rate, channels)
    # Of a FLAC a whole frame is lost, of Ogg and mp3 what is needed to begin again.
    assert len(samples) > len(expected) - 4608
    if kind.endswith("cut"):
        assert agreement(samples[:, 0], expected[:, 0])[1] > 0.999
        return
    if "one more" in kind and "half" in kind:
        # ffmpeg gives the second of Vorbis up with the first.
        expected = make_again(path.with_name("again.wav"), [(2, RATE), (3, RATE)], 1)
        expected = soxr.resample(expected, RATE, recording.rate)
    # What is lost in between is silence to one decoder and nothing to another.
    n = recording.rate // 2
    for ours, theirs in ((samples, expected), (samples[::-1], expected[::-1])):
        assert agreement(ours[:n, 0], theirs[: n + 2400, 0], windows=1)[0] > 0.97


@pytest.mark.parametrize("kind", ["mp3 joined", "Vorbis chained", "FLAC of ffmpeg, piped"])
def test_the_end_is_heard(tmp_path, kind):
    """The last second is as loud as the source's, and not silence behind what was believed."""
    samples, recording = decode(make_recording(kind, tmp_path))
    assert np.abs(samples[-recording.rate :]).max() > 0.3
    assert len(samples) > 3.9 * recording.rate


@pytest.mark.parametrize("coder", ["pcm_f32le", "pcm_f64le", "pcm_s16le", "pcm_s24le", "pcm_u8"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_wave64_is_not_left_to_libsndfile(tmp_path, coder, channels):
    """It takes floats of 32 bit for integers where the format is spelled out."""
    source = recordings.make_source(tmp_path / "s.wav", 0.5, channels=channels)
    recordings.ffmpeg(source, tmp_path / "x.w64", "-c:a", coder)
    samples, _ = decode(tmp_path / "x.w64")
    expected = heard(tmp_path / "x.w64", RATE, channels)
    np.testing.assert_allclose(samples, expected, atol=1e-6)


LATER = {  # What begins or ends elsewhere than its header has it, and lacks nothing.
    "sound that begins late": ("x.mp4", "-itsoffset", "1"),
    "a segment of Matroska": ("part%d.webm", "-c:a", "libopus", "-f", "segment"),
    "a segment of Ogg": ("part%d.ogg", "-c:a", "libvorbis", "-f", "segment"),
    "a segment of Opus": ("part%d.opus", "-c:a", "libopus", "-f", "segment"),
}


@pytest.mark.parametrize("name", LATER)
def test_what_is_whole_is_not_called_cut(tmp_path, name):
    source = recordings.make_source(tmp_path / "s.wav", 6.0)
    pattern, *options = LATER[name]
    if "-itsoffset" in options:
        recordings.run("ffmpeg", "-v", "error", *options, "-i", source, tmp_path / pattern)
    else:
        recordings.ffmpeg(source, tmp_path / pattern, *options, "-segment_time", "2")
    paths = [path for path in tmp_path.iterdir() if path != source]
    assert paths and not any("truncated" in faults.inspect(path).faults for path in paths)


def test_a_flac_that_was_cut_out_without_being_decoded(tmp_path):
    """Its frames count from where they were, and its header has the total of the whole."""
    source = recordings.make_source(tmp_path / "s.wav", 8.0, 44100)
    recordings.ffmpeg(source, tmp_path / "x.flac")
    recordings.run("ffmpeg", "-v", "error", "-ss", "3", "-i", tmp_path / "x.flac", "-c", "copy",
                   tmp_path / "cut.flac")  # fmt: skip
    samples, recording = decode(tmp_path / "cut.flac")
    expected = heard(tmp_path / "cut.flac", 44100, 1)
    assert len(samples) == len(expected) and not recording.lacks
    assert round(io.duration_s(tmp_path / "cut.flac") * 44100) == len(samples)
    data = bytearray((tmp_path / "cut.flac").read_bytes())
    data[len(data) // 2] ^= 0x55
    (tmp_path / "cut.flac").write_bytes(data)
    damaged, recording = decode(tmp_path / "cut.flac")
    assert len(damaged) == len(samples) and recording.lacks


BEHIND = {
    "a list, cut off": b"LIST" + (9000).to_bytes(4, "little") + bytes(range(256)) * 30,
    "tags, after a pad that was forgotten": b"\0id3 "
    + (9000).to_bytes(4, "little")
    + bytes(range(1, 255)) * 30,
    "tags": b"ID3\4\0" + bytes(range(256)) * 30,
    "text": b"<xmp>" + b"remarks " * 2000,
    "zeros": bytes(20_000),
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("coder", ["pcm_s16le", "pcm_u8"])
def test_what_stands_behind_the_sound_is_not_heard(tmp_path, behind, coder):
    source = recordings.make_source(tmp_path / "s.wav", 1.0)
    recordings.ffmpeg(source, tmp_path / "x.wav", "-c:a", coder, "-bitexact")
    before = decode(tmp_path / "x.wav")[0]
    with (tmp_path / "x.wav").open("ab") as file:
        file.write(BEHIND[behind])
    np.testing.assert_array_equal(decode(tmp_path / "x.wav")[0], before)


@pytest.mark.parametrize("n", [1, 10, 100])
@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg"])
def test_a_short_part_at_another_rate_ends_nothing(tmp_path, ending, n):
    recordings.make_source(tmp_path / "a.wav", 1.0)
    soundfile.write(tmp_path / "b.wav", np.full(n, 0.1), 44100)
    parts = []
    for name in ("a", "b"):
        coded = tmp_path / f"{name}-coded{ending}"
        recordings.ffmpeg(tmp_path / f"{name}.wav", coded)
        parts.append(coded.read_bytes())
    (tmp_path / f"x{ending}").write_bytes(b"".join(parts))
    found = faults.inspect(tmp_path / f"x{ending}")
    assert not found.unusable and found.n_samples >= 22050 - 4096


def test_sizes_that_point_nowhere_are_no_error_of_reading(tmp_path):
    source = recordings.make_source(tmp_path / "s.wav", 0.5)
    for ending in (".caf", ".w64", ".aiff", ".au"):
        path = tmp_path / f"x{ending}"
        recordings.ffmpeg(source, path)
        data = bytearray(path.read_bytes())
        for mark, width in ((b"data", 8), (b"SSND", 4), (b"fmt ", 8), (b"desc", 8)):
            at = data.find(mark)
            for size in (2**63 - 1, 2**62, 2**40) if at >= 0 else ():
                changed = data.copy()
                place = at + (16 if ending == ".w64" else 4)
                order = "little" if ending == ".w64" else "big"
                changed[place : place + width] = size.to_bytes(8, order)[-width:]
                path.write_bytes(changed)
                assert "unread" not in faults.inspect(path).faults


@pytest.mark.parametrize("channels", [64, 300])
def test_many_channels_ask_for_no_more_memory(tmp_path, channels):
    path = tmp_path / "x.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((30_000, channels)), 8000)
    blocks = list(io.Recording(path).blocks())
    assert sum(map(len, blocks)) == 30_000 and max(block.nbytes for block in blocks) <= 2**23


JUNK = {
    "nothing": b"", "one byte": b"x", "a page": b"<!doctype html><title>404</title>" * 20,
    "zeros": bytes(100_000), "a picture": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 40,
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "a heading": b"RIFF\x24\0\0\0WAVEfmt ", "a box": b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42",
    "a mark": b"fLaC", "a page of Ogg": b"OggS\0\x02" + bytes(40), "a sync": b"\xff\xfb\x90\x64",
    "a tag": b"ID3\x04\0\0\0\0\x0f\x7f" + bytes(300), "AppleDouble": b"\0\5\26\7" + bytes(80),
    "EBML": b"\x1a\x45\xdf\xa3" + bytes(99), "an archive": b"PK\3\4" + bytes(range(200)),
    "random": np.random.default_rng(0).bytes(200_000),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["wav", "mp3", "ogg", "flac", "m4a", "raw", "aiff", "opus"])
@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_recording_is_a_fault_of_its_own(tmp_path, ending, junk):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(JUNK[junk])
    found = faults.inspect(path)
    assert found.faults in (["unreadable"], ["empty"]) and "Traceback" not in found.why
    assert io.duration_s(path) in (None, 0)
    with pytest.raises(InvalidInput, match=r"x\."):
        if not len(io.read_audio(path)[0]):
            raise InvalidInput("x. is empty")


@pytest.mark.parametrize("rate", [0, 1, 2, 100, 999, 2_000_000, 2**31 - 1, 2**32 - 1])
def test_a_rate_that_cannot_be_is_told_and_asks_for_no_memory(tmp_path, rate):
    path = recordings.make_source(tmp_path / "x.wav", 0.5)
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(data)
    found = faults.inspect(path)
    assert found.faults[0] in ("rate", "unreadable") and found.unusable
    assert found.faults[0] == "unreadable" or f"{rate} Hz" in found.why


@pytest.mark.parametrize("ending", pyav.EXTENSIONS)
def test_without_pyav_the_remedy_is_named(tmp_path, monkeypatch, ending):
    path = tmp_path / f"x{ending}"
    recordings.ffmpeg(
        recordings.make_source(tmp_path / "s.wav", 1.0, 48000), tmp_path / "y.m4a", "-c:a", "aac"
    )
    (tmp_path / "y.m4a").rename(path)
    assert faults.inspect(path).faults == []
    monkeypatch.setattr(pyav, "is_there", lambda: False)
    found = faults.inspect(path)
    # The next run tries again, with PyAV perhaps.
    assert found.faults == ["unread"]
    assert "pip install av" in found.why and "ffmpeg" in found.why


@pytest.mark.parametrize("error", [13, 5, 24, 12, 116, 23, 110, 6])
def test_what_could_not_be_read_is_no_fault_of_its_content(tmp_path, monkeypatch, error):
    path = recordings.make_source(tmp_path / "x.wav", 0.5)

    def fail(path):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(io, "find_streams", fail)
    found = faults.inspect(path)
    assert found.faults == ["unread"] and found.why == os.strerror(error)
    monkeypatch.undo()
    assert faults.inspect(path).faults == []


@pytest.mark.parametrize("kind", ["mp3 VBR without Xing", "Opus", "FLAC of ffmpeg, piped"])
def test_a_disk_that_fails_midway_is_no_end_of_the_recording(tmp_path, monkeypatch, kind):
    path = make_recording(kind, tmp_path)
    read = Pieced.readinto

    def fail(self, buffer):
        if self.tell() > 8000:
            self.error = OSError(5, os.strerror(5))
            return 0
        return read(self, buffer)

    monkeypatch.setattr(Pieced, "readinto", fail)
    assert faults.inspect(path).faults == ["unread"]
