"""Every recording is heard whole, whatever its header says, and what is missing is told."""

import os

import numpy as np
import pytest
import soundfile

from labelkit.audio import faults, io, pyav
from labelkit.audio.source import Pieced
from labelkit.errors import InvalidInput
from tests.support import recordings
from tests.support.recordings import CUT, KINDS, RATE, agreement, heard, make_recording
from tests.support.requirements import absent

# ffmpeg does not decode the first, and takes the second for little-endian.
NOT_OF_FFMPEG = ("mp3 of LAME, free rate", "wav, big-endian")
WHOLE = [kind for kind in KINDS if kind not in CUT]
# As they come from the field: stereo, at other rates.
OTHERS = [
    (kind, channels, rate)
    for kind in (
        "wav of SoX, piped", "FLAC of ffmpeg, piped", "mp3 of ffmpeg, piped", "mp3 of LAME, VBR",
        "mp3 VBR without Xing", "mp3 of LAME without Xing", "wav, data of 0 bytes",
        "mp3, Xing of a third", "mp3, Xing of 0 frames", "Opus, header says 0 Hz",
        "mp3, garbage between frames", "AAC in MPEG-4", "FLAC in Ogg", "wav of Android",
        "MPEG layer II", "CAF of ffmpeg, piped",
    )
    for channels, rate in ((2, 44100), (1, 48000), (2, 32000))
    if not (kind == "mp3, garbage between frames" and rate > 24000)
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
        source = path.with_name("again.wav")
        recordings.make_source(source, rate=recording.rate, channels=channels)
        expected, _ = soundfile.read(source, dtype="float32", always_2d=True)
    else:
        expected = heard(path, recording.rate, channels)
    assert abs(len(samples) - len(expected)) <= 1152 + 577
    lowest, *others = agreement(samples[:, -1], expected[:, -1])
    # The first is compared with the source itself, of the other resamplers keep other highs.
    # Where parts were joined decoders differ by some samples.
    close = {"mp3 of LAME, free rate": 0.99, "mp3 of two rates joined": 0.97}.get(kind, 0.999)
    assert min(others) > close
    assert lowest > close or {"joined", "chained", "Xing", "WebM"} & set(kind.split())


@pytest.mark.parametrize("kind", WHOLE)
def test_it_is_heard_as_ffmpeg_hears_it(tmp_path, kind):
    check_whole(make_recording(kind, tmp_path), kind)


@pytest.mark.parametrize(("kind", "channels", "rate"), OTHERS)
def test_so_it_is_of_several_channels_and_other_rates(tmp_path, kind, channels, rate):
    check_whole(make_recording(kind, tmp_path, channels, rate), kind, channels)


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_lacks_something_is_told_and_used(tmp_path, kind, channels):
    path = make_recording(kind, tmp_path, channels, 44100 if channels == 2 else RATE)
    samples, recording = decode(path)
    assert recording.lacks and "truncated" in faults.inspect(path).faults
    assert io.duration_s(path) * recording.rate == pytest.approx(len(samples), abs=1)
    expected = heard(path, recording.rate, channels)
    assert len(samples) > len(expected) - 2 * 4096
    assert agreement(samples[:, 0], expected[:, 0])[1] > 0.999


@pytest.mark.parametrize(
    ("kind", "marks"), [("mp3 joined", 2), ("Vorbis chained", 2), ("FLAC of ffmpeg, piped", 1)]
)
def test_the_end_is_heard(tmp_path, kind, marks):
    """The last second is as loud as the source's, and not silence behind what was believed."""
    samples, recording = decode(make_recording(kind, tmp_path))
    assert np.abs(samples[-recording.rate :]).max() > 0.3
    assert len(samples) > 3.9 * recording.rate


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
    assert found.faults == ["unreadable"]
    assert "pip install av" in found.why and "ffmpeg" in found.why


@pytest.mark.parametrize("error", [13, 5, 24, 12, 116])
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
