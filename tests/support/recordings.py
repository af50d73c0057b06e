"""Recordings of many kinds, by ffmpeg, SoX, LAME and by hand, and what ffmpeg hears of them."""

import shutil
import subprocess

import numpy as np
import soundfile

RATE = 22050
TOOLS = ("ffmpeg", "sox", "lame")
_TABLE = []
for _byte in range(256):
    _value = _byte << 24
    for _ in range(8):
        _value = (_value << 1 ^ (0x04C11DB7 if _value & 0x80000000 else 0)) & 0xFFFFFFFF
    _TABLE.append(_value)


def run(*command, stdout=subprocess.DEVNULL, data=None):
    done = subprocess.run(
        [str(word) for word in command],
        input=data,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0, (command, done.stderr[-300:])
    return done.stdout


def ffmpeg(source, target, *options):
    run("ffmpeg", "-v", "error", "-y", "-i", source, *options, target)


def piped(source, target, *options):
    """Written where nobody can go back to the beginning."""
    target.write_bytes(
        run("ffmpeg", "-v", "error", "-i", source, *options, "-", stdout=subprocess.PIPE)
    )


def heard(path, rate, channels):
    """Return what ffmpeg decodes, shape ``(n_samples, n_channels)``."""
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        path,
        "-f",
        "f32le",
        "-ar",
        rate,
        "-ac",
        channels,
        "-",
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    return np.frombuffer(done.stdout, np.float32).reshape(-1, channels)


def make_source(path, seconds=4.0, rate=RATE, channels=1, seed=0):
    """A quiet third and two louder ones, so that coders change their rate within it."""
    n = int(rate * seconds)
    rng, t = np.random.default_rng(seed), np.arange(n) / rate
    level = np.where(t < seconds / 3, 0.05, 0.5)
    sweep = np.sin(2 * np.pi * (200 * t + 150 * t * t / seconds * 4))
    sound = level * sweep + 0.15 * level * rng.standard_normal(n)
    columns = [sound] + [np.roll(sound, 7 * k) for k in range(1, channels)]
    soundfile.write(path, np.clip(np.column_stack(columns), -0.99, 0.99), rate, subtype="PCM_16")
    return path


# What is written by a coder as it is; by name the ending and the options of ffmpeg.
PLAIN = {
    "wav 8 bit": (".wav", "-c:a", "pcm_u8"),
    "wav 24 bit": (".wav", "-c:a", "pcm_s24le"),
    "wav 32 bit": (".wav", "-c:a", "pcm_s32le"),
    "wav float": (".wav", "-c:a", "pcm_f32le"),
    "wav double": (".wav", "-c:a", "pcm_f64le"),
    "wav A-law": (".wav", "-c:a", "pcm_alaw"),
    "wav mu-law": (".wav", "-c:a", "pcm_mulaw"),
    "wav ADPCM of Microsoft": (".wav", "-c:a", "adpcm_ms"),
    "wav ADPCM of IMA": (".wav", "-c:a", "adpcm_ima_wav"),
    "RF64": (".wav", "-rf64", "always"),
    "Wave64": (".w64",),
    "AIFF": (".aiff",),
    "AIFF-C float": (".aif", "-c:a", "pcm_f32be"),
    "AU": (".au",),
    "CAF": (".caf",),
    "FLAC": (".flac",),
    "Vorbis": (".ogg", "-c:a", "libvorbis"),
    "Opus": (".opus", "-c:a", "libopus"),
    "FLAC in Ogg": (".oga", "-c:a", "flac", "-f", "ogg"),
    "mp3 CBR": (".mp3", "-b:a", "64k"),
    "mp3 VBR": (".mp3", "-q:a", "4"),
    "mp3 VBR without Xing": (".mp3", "-q:a", "4", "-write_xing", "0", "-id3v2_version", "0"),
    "mp3 with ID3v2": (".mp3", "-b:a", "64k", "-metadata", f"title={'x' * 5000}"),
    "MPEG layer II": (".mp2", "-c:a", "mp2"),
    "AAC in MPEG-4": (".m4a", "-c:a", "aac"),
    "AAC": (".aac", "-c:a", "aac"),
    "ALAC": (".m4a", "-c:a", "alac"),
    "Opus in WebM": (".webm", "-c:a", "libopus"),
    "Vorbis in Matroska": (".mka", "-c:a", "libvorbis"),
    "WMA": (".wma", "-c:a", "wmav2"),
    "AC-3": (".ac3", "-c:a", "ac3"),
}  # fmt: skip
PIPED = {
    "wav of ffmpeg, piped": (".wav", "-f", "wav"),
    "FLAC of ffmpeg, piped": (".flac", "-f", "flac"),
    "mp3 of ffmpeg, piped": (".mp3", "-f", "mp3", "-b:a", "64k"),
    "mp3 VBR of ffmpeg, piped": (".mp3", "-f", "mp3", "-q:a", "3"),
    "AU of ffmpeg, piped": (".au", "-f", "au"),
    "CAF of ffmpeg, piped": (".caf", "-f", "caf"),
    "Vorbis of ffmpeg, piped": (".ogg", "-c:a", "libvorbis", "-f", "ogg"),
}  # fmt: skip
SOX = {
    "wav of SoX, piped": ("wav",),
    "AIFF of SoX, piped": ("aiff",),
    "AU of SoX, piped": ("au",),
    "FLAC of SoX, piped": ("flac",),
    "CAF of SoX": ("caf",),
}  # fmt: skip
LAME = {
    "mp3 of LAME, VBR": ("-V", "5"),
    "mp3 of LAME without Xing": ("-V", "5", "-t"),
    "mp3 of LAME, ABR": ("--abr", "80"),
    "mp3 of LAME, CBR without tag": ("-b", "64", "-t"),
    "mp3 of LAME, free rate": ("--freeformat", "-b", "100"),
}  # fmt: skip


def _wav(source):
    data = bytearray(source.read_bytes())
    return data, data.find(b"data")


def _sized(riff=None, size=None, by=0):
    def make(source, target):
        data, at = _wav(source)
        if riff is not None:
            data[4:8] = riff.to_bytes(4, "little")
        if size is not None:
            data[at + 4 : at + 8] = size.to_bytes(4, "little")
        if by:
            data[4:8] = (int.from_bytes(data[4:8], "little") + by).to_bytes(4, "little")
        target.write_bytes(data)

    return make


def _rifx(source, target):
    samples, rate = soundfile.read(source, dtype="int16", always_2d=True)
    soundfile.write(target, samples, rate, subtype="PCM_16", endian="BIG")


def _chunks_before(source, target):
    data, at = _wav(source)
    extra = b"LIST" + (26).to_bytes(4, "little") + b"INFOISFT" + (14).to_bytes(4, "little")
    extra += b"a recorder 1.0"
    data[at:at] = extra
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    target.write_bytes(data)


def _chunk_behind(source, target):
    data, _ = _wav(source)
    target.write_bytes(data + b"LIST" + (4).to_bytes(4, "little") + b"INFO")


def _joined(ending, *options, other=RATE, channels=None):
    def make(source, target):
        parts = []
        for k, rate in enumerate((RATE, other)):
            part = make_source(target.with_name(f"part{k}.wav"), 2.0 + k, rate, 1, k)
            coded = target.with_name(f"part{k}{ending}")
            ffmpeg(part, coded, *options)
            parts.append(coded.read_bytes())
            part.unlink()
            coded.unlink()
        target.write_bytes(b"".join(parts))

    return make


def _xing(change):
    def make(source, target):
        ffmpeg(source, target, "-q:a", "4", "-id3v2_version", "0")
        data = bytearray(target.read_bytes())
        at = max(data.find(b"Xing"), data.find(b"Info"))
        frames = int.from_bytes(data[at + 8 : at + 12], "big")
        data[at + 8 : at + 12] = change(frames).to_bytes(4, "big")
        target.write_bytes(data)

    return make


def _xing_without_count(source, target):
    ffmpeg(source, target, "-q:a", "4", "-id3v2_version", "0")
    data = bytearray(target.read_bytes())
    data[max(data.find(b"Xing"), data.find(b"Info")) + 7] &= 0xFE
    target.write_bytes(data)


def _garbage_between(source, target):
    ffmpeg(source, target, "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0")
    data = target.read_bytes()
    frame = 144 // 2 * 64000 // RATE  # Of MPEG 2, without its pad.
    at = data.find(data[:2], 40 * frame)
    target.write_bytes(data[:at] + bytes(3000) + data[at:])


def _tags_behind(source, target):
    ffmpeg(source, target, "-q:a", "5", "-id3v2_version", "0")
    tag = b"APETAGEX" + (2000).to_bytes(4, "little") + bytes(60) + b"TAG" + bytes(125)
    target.write_bytes(target.read_bytes() + tag)


def _flac_with_id3(source, target):
    ffmpeg(source, target)
    target.write_bytes(b"ID3\x04\0\0\0\0\x0f\x50" + bytes(2000) + target.read_bytes())


def seal(page):
    """Write the checksum of an Ogg page."""
    page[22:26] = bytes(4)
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    page[22:26] = value.to_bytes(4, "little")


def _opus_rate(hz):
    def make(source, target):
        ffmpeg(source, target, "-c:a", "libopus")
        data = bytearray(target.read_bytes())
        n = 27 + data[26] + sum(data[27 : 27 + data[26]])
        page = data[:n]
        at = page.find(b"OpusHead") + 12
        page[at : at + 4] = hz.to_bytes(4, "little")
        seal(page)
        target.write_bytes(page + data[n:])

    return make


def _cut(ending, share, *options):
    def make(source, target):
        ffmpeg(source, target, *options)
        data = target.read_bytes()
        target.write_bytes(data[: int(share * len(data))])

    return make


BY_HAND = {
    "wav, data of 0 bytes": (".wav", _sized(riff=0, size=0)),
    "wav, data of 0 bytes, right size of file": (".wav", _sized(size=0)),
    "wav of Android": (".wav", _sized(riff=0x7FFFFFFF, size=0x7FFFFFFF)),
    "wav of arecord": (".wav", _sized(riff=0x80000024, size=0x80000000)),
    "wav of GStreamer": (".wav", _sized(riff=0xFFFFFFFF, size=0xFFFFFFFF)),
    "wav, file said 8 bytes larger": (".wav", _sized(by=8)),
    "wav, file said 16 bytes larger": (".wav", _sized(by=16)),
    "wav, file said of no size": (".wav", _sized(riff=0)),
    "wav, big-endian": (".wav", _rifx),
    "wav, chunks before": (".wav", _chunks_before),
    "wav, a chunk behind": (".wav", _chunk_behind),
    "mp3 joined": (".mp3", _joined(".mp3", "-b:a", "64k")),
    "mp3 VBR joined": (".mp3", _joined(".mp3", "-q:a", "3")),
    "mp3 joined without tags": (
        ".mp3", _joined(".mp3", "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0")),
    "mp3 of two rates joined": (".mp3", _joined(".mp3", "-q:a", "3", other=44100)),
    "Vorbis chained": (".ogg", _joined(".ogg", "-c:a", "libvorbis")),
    "Vorbis of two rates chained": (".ogg", _joined(".ogg", "-c:a", "libvorbis", other=44100)),
    "Opus chained": (".opus", _joined(".opus", "-c:a", "libopus")),
    "mp3, Xing of 0 frames": (".mp3", _xing(lambda frames: 0)),
    "mp3, Xing of a third": (".mp3", _xing(lambda frames: frames // 3)),
    "mp3, Xing without a count": (".mp3", _xing_without_count),
    "mp3, garbage between frames": (".mp3", _garbage_between),
    "mp3, tags behind": (".mp3", _tags_behind),
    "FLAC behind ID3v2": (".flac", _flac_with_id3),
    "Opus, header says 0 Hz": (".opus", _opus_rate(0)),
    "Opus, header says 8000 Hz": (".opus", _opus_rate(8000)),
    "Opus, header says 44100 Hz": (".opus", _opus_rate(44100)),
}  # fmt: skip
# These lack something, which must be told.
CUT = {
    "wav cut": (".wav", _cut(".wav", 0.6)),
    "FLAC cut": (".flac", _cut(".flac", 0.6)),
    "Vorbis cut": (".ogg", _cut(".ogg", 0.6, "-c:a", "libvorbis")),
    "Opus cut": (".opus", _cut(".opus", 0.6, "-c:a", "libopus")),
    "mp3 cut": (".mp3", _cut(".mp3", 0.6, "-q:a", "4")),
    "mp3 without Xing cut": (".mp3", _cut(".mp3", 0.6, "-b:a", "64k", "-write_xing", "0")),
    "mp3, Xing of thrice the frames": (".mp3", _xing(lambda frames: 3 * frames)),
}  # fmt: skip
KINDS = [*PLAIN, *PIPED, *SOX, *LAME, *BY_HAND, *CUT]


def make_recording(kind, folder, channels=1, rate=RATE):
    """Write a recording of a kind into a folder and return its path."""
    source = make_source(folder / "source.wav", rate=rate, channels=channels)
    name = "".join(letter if letter.isalnum() else "_" for letter in kind)
    if kind in PLAIN:
        ending, *options = PLAIN[kind]
        ffmpeg(source, folder / f"{name}{ending}", *options)
    elif kind in PIPED:
        ending, *options = PIPED[kind]
        piped(source, folder / f"{name}{ending}", *options)
    elif kind in SOX:
        [ending] = SOX[kind]
        raw = run("sox", source, "-t", "raw", "-", stdout=subprocess.PIPE)
        raw_options = ("-t", "raw", "-r", rate, "-e", "signed", "-b", "16", "-c", channels)
        if kind.endswith("piped"):
            sound = run(
                "sox", *raw_options, "-", "-t", ending, "-", stdout=subprocess.PIPE, data=raw
            )
            (folder / f"{name}.{ending}").write_bytes(sound)
        else:
            run("sox", source, folder / f"{name}.{ending}")
        ending = f".{ending}"
    elif kind in LAME:
        ending = ".mp3"
        run("lame", "--quiet", *LAME[kind], source, folder / f"{name}{ending}")
    else:
        ending, make = {**BY_HAND, **CUT}[kind]
        make(source, folder / f"{name}{ending}")
    source.unlink()
    return folder / f"{name}{ending}"


def agreement(ours, theirs, most_lag=2400, windows=12):
    """Return the correlations over the windows of a recording, each at its best lag, sorted.

    Args:
        ours: Mono samples.
        theirs: The same by another decoder, which may begin some samples earlier or later.
        most_lag: Samples that the two may be apart.
        windows: How many; where parts were joined, the lag may change within one.
    """
    n = min(len(ours), len(theirs)) // windows
    found = []
    for k in range(windows):
        a = ours[k * n : (k + 1) * n].astype(np.float64)
        b = theirs[max(0, k * n - most_lag) : (k + 1) * n + most_lag].astype(np.float64)
        size = len(a) + len(b)
        products = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
        products = products[: len(b) - len(a) + 1]
        sums = np.concatenate([[0], np.cumsum(b * b)])
        energies = sums[len(a) :] - sums[: len(sums) - len(a)]
        found.append(float((products / np.sqrt(np.maximum(energies * (a @ a), 1e-20))).max()))
    return sorted(found)


def missing_tools():
    return [tool for tool in TOOLS if shutil.which(tool) is None]
