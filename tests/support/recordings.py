"""Recordings of many kinds, by ffmpeg, SoX, LAME and by hand, and what ffmpeg hears of them."""

import shutil
import subprocess

import numpy as np
import soundfile

RATE = 22050
TOOLS = ("ffmpeg", "sox", "lame")
VORBIS, OPUS = ("-c:a", "libvorbis"), ("-c:a", "libopus")
OGG_FLAC = ("-c:a", "flac", "-f", "ogg")
BARE = ("-write_xing", "0", "-id3v2_version", "0")
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


def _coded(*options):
    def make(source, target):
        ffmpeg(source, target, *options)

    return make


def _piped(*options):
    """Written where nobody can go back to the beginning."""

    def make(source, target):
        command = ["ffmpeg", "-v", "error", "-i", source, *options, "-"]
        target.write_bytes(run(*command, stdout=subprocess.PIPE))

    return make


def _sox(kind):
    """By SoX from a pipe to a pipe."""

    def make(source, target):
        samples, rate = soundfile.read(source, dtype="int16", always_2d=True)
        raw = ("-t", "raw", "-r", rate, "-e", "signed", "-b", "16", "-c", samples.shape[1], "-")
        command = ["sox", *raw, "-t", kind, "-"]
        target.write_bytes(run(*command, stdout=subprocess.PIPE, data=samples.tobytes()))

    return make


def _converted(source, target):
    run("sox", source, target)


def _lame(*options):
    def make(source, target):
        run("lame", "--quiet", *options, source, target)

    return make


def _wav(source):
    data = bytearray(source.read_bytes())
    return data, data.find(b"data")


def _sized(riff=None, size=None, by=0):
    def make(source, target):
        data, at = _wav(source)
        size_now = size(len(data)) if callable(size) else size
        if riff is not None:
            data[4:8] = riff.to_bytes(4, "little")
        if size_now is not None:
            data[at + 4 : at + 8] = size_now.to_bytes(4, "little")
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


def _joined(ending, *options, other=RATE, first=1.0):
    """Two files in one; of the first only a share of it."""

    def make(source, target):
        parts = []
        for k, rate in enumerate((RATE, other)):
            part = make_source(target.with_name(f"part{k}.wav"), 2.0 + k, rate, 1, k)
            coded = target.with_name(f"coded{k}{ending}")
            ffmpeg(part, coded, *options)
            data = coded.read_bytes()
            parts.append(data if k else data[: int(first * len(data))])
            part.unlink()
            coded.unlink()
        target.write_bytes(b"".join(parts))

    return make


def _xing(change=lambda frames: frames, *, flags=0xFF):
    def make(source, target):
        ffmpeg(source, target, "-q:a", "4", "-id3v2_version", "0")
        data = bytearray(target.read_bytes())
        at = max(data.find(b"Xing"), data.find(b"Info"))
        frames = int.from_bytes(data[at + 8 : at + 12], "big")
        data[at + 7] &= flags
        data[at + 8 : at + 12] = change(frames).to_bytes(4, "big")
        target.write_bytes(data)

    return make


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


def _flac_samples(change):
    def make(source, target):
        ffmpeg(source, target)
        data = bytearray(target.read_bytes())
        stated = int.from_bytes(data[21:26], "big") & (2**36 - 1)
        shared = int.from_bytes(data[18:26], "big") - stated
        data[18:26] = (shared + change(stated)).to_bytes(8, "big")
        target.write_bytes(data)

    return make


def _segments(source, target):
    ffmpeg(source, target.with_name("part%d.flac"), "-f", "segment", "-segment_time", "60")
    target.with_name("part0.flac").rename(target)


def _rf64(size):
    def change(data, n):
        at = data.find(b"ds64") + 16
        return data[:at] + size.to_bytes(8, "little") + data[at + 8 :]

    return _damaged(change, "-rf64", "always")


def _extensible(source, target):
    """As 24 bit of some recorders, which lost power."""
    ffmpeg(source, target, "-c:a", "pcm_s24le")
    _sized(riff=0, size=0)(target, target)


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


def _damaged(change, *options):
    """Changed once it is coded; of the bytes and how many there are."""

    def make(source, target):
        ffmpeg(source, target, *options)
        data = target.read_bytes()
        target.write_bytes(change(data, len(data)))

    return make


def _cut(*options):
    return _damaged(lambda data, n: data[: int(0.6 * n)], *options)


def _zeroed(*options):
    return _damaged(
        lambda data, n: data[: n // 2] + bytes(n // 4) + data[n // 2 + n // 4 :], *options
    )


def _gone(*options):
    return _damaged(lambda data, n: data[: n // 2] + data[n // 2 + n // 4 :], *options)


def _flipped(n_bytes, *options):
    def change(data, n):
        data = bytearray(data)
        for k in range(n_bytes):
            data[n // 2 + k * n // 20] ^= 0x55
        return bytes(data)

    return _damaged(change, *options)


PLAIN = {
    "wav 8 bit": (".wav", _coded("-c:a", "pcm_u8")),
    "wav 24 bit": (".wav", _coded("-c:a", "pcm_s24le")),
    "wav 32 bit": (".wav", _coded("-c:a", "pcm_s32le")),
    "wav float": (".wav", _coded("-c:a", "pcm_f32le")),
    "wav double": (".wav", _coded("-c:a", "pcm_f64le")),
    "wav A-law": (".wav", _coded("-c:a", "pcm_alaw")),
    "wav mu-law": (".wav", _coded("-c:a", "pcm_mulaw")),
    "wav ADPCM of Microsoft": (".wav", _coded("-c:a", "adpcm_ms")),
    "wav ADPCM of IMA": (".wav", _coded("-c:a", "adpcm_ima_wav")),
    "RF64": (".wav", _coded("-rf64", "always")),
    "Wave64": (".w64", _coded()),
    "AIFF": (".aiff", _coded()),
    "AIFF-C float": (".aif", _coded("-c:a", "pcm_f32be")),
    "AU": (".au", _coded()),
    "CAF": (".caf", _coded()),
    "FLAC": (".flac", _coded()),
    "Vorbis": (".ogg", _coded(*VORBIS)),
    "Opus": (".opus", _coded(*OPUS)),
    "FLAC in Ogg": (".oga", _coded(*OGG_FLAC)),
    "mp3 CBR": (".mp3", _coded("-b:a", "64k")),
    "mp3 VBR": (".mp3", _coded("-q:a", "4")),
    "mp3 VBR without Xing": (".mp3", _coded("-q:a", "4", *BARE)),
    "mp3 with ID3v2": (".mp3", _coded("-b:a", "64k", "-metadata", f"title={'x' * 5000}")),
    "MPEG layer II": (".mp2", _coded("-c:a", "mp2")),
    "AAC in MPEG-4": (".m4a", _coded("-c:a", "aac")),
    "AAC": (".aac", _coded("-c:a", "aac")),
    "ALAC": (".m4a", _coded("-c:a", "alac")),
    "Opus in WebM": (".webm", _coded(*OPUS)),
    "Vorbis in Matroska": (".mka", _coded(*VORBIS)),
    "WMA": (".wma", _coded("-c:a", "wmav2")),
    "AC-3": (".ac3", _coded("-c:a", "ac3")),
    "wav of ffmpeg, piped": (".wav", _piped("-f", "wav")),
    "FLAC of ffmpeg, piped": (".flac", _piped("-f", "flac")),
    "mp3 of ffmpeg, piped": (".mp3", _piped("-f", "mp3", "-b:a", "64k")),
    "mp3 VBR of ffmpeg, piped": (".mp3", _piped("-f", "mp3", "-q:a", "3")),
    "AU of ffmpeg, piped": (".au", _piped("-f", "au")),
    "CAF of ffmpeg, piped": (".caf", _piped("-f", "caf")),
    "Vorbis of ffmpeg, piped": (".ogg", _piped(*VORBIS, "-f", "ogg")),
    "wav of SoX, piped": (".wav", _sox("wav")),
    "AIFF of SoX, piped": (".aiff", _sox("aiff")),
    "AU of SoX, piped": (".au", _sox("au")),
    "FLAC of SoX, piped": (".flac", _sox("flac")),
    "CAF of SoX": (".caf", _converted),
    "mp3 of LAME, VBR": (".mp3", _lame("-V", "5")),
    "mp3 of LAME without Xing": (".mp3", _lame("-V", "5", "-t")),
    "mp3 of LAME, ABR": (".mp3", _lame("--abr", "80")),
    "mp3 of LAME, CBR without tag": (".mp3", _lame("-b", "64", "-t")),
    "mp3 of LAME, free rate": (".mp3", _lame("--freeformat", "-b", "100")),
}
BY_HAND = {
    "wav, data of 0 bytes": (".wav", _sized(riff=0, size=0)),
    "wav, data of 0 bytes, right size of file": (".wav", _sized(size=0)),
    "wav of 24 bit, data of 0 bytes": (".wav", _extensible),
    "wav, data of a third": (".wav", _sized(size=lambda n: n // 3 // 2 * 2)),
    "wav of Android": (".wav", _sized(riff=0x7FFFFFFF, size=0x7FFFFFFF)),
    "wav of arecord": (".wav", _sized(riff=0x80000024, size=0x80000000)),
    "wav of GStreamer": (".wav", _sized(riff=0xFFFFFFFF, size=0xFFFFFFFF)),
    "wav, file said 8 bytes larger": (".wav", _sized(by=8)),
    "wav, file said 16 bytes larger": (".wav", _sized(by=16)),
    "wav, file said of no size": (".wav", _sized(riff=0)),
    "wav, big-endian": (".wav", _rifx),
    "wav, chunks before": (".wav", _chunks_before),
    "wav, a chunk behind": (".wav", _chunk_behind),
    "wav, text behind": (".wav", _damaged(lambda data, n: data + b"<?xml?> remarks " * 900)),
    "wav joined": (".wav", _joined(".wav")),
    "RF64, data of 0 bytes": (".wav", _rf64(0)),
    "RF64, data of the most bytes": (".wav", _rf64(2**64 - 1)),
    "AU, data of 0 bytes": (".au", _damaged(lambda data, n: data[:8] + bytes(4) + data[12:])),
    "mp3 joined": (".mp3", _joined(".mp3", "-b:a", "64k")),
    "mp3 VBR joined": (".mp3", _joined(".mp3", "-q:a", "3")),
    "mp3 joined without tags": (".mp3", _joined(".mp3", "-b:a", "64k", *BARE)),
    "mp3 of two rates joined": (".mp3", _joined(".mp3", "-q:a", "3", other=44100)),
    "mp3 of two rates joined without tags": (
        ".mp3",
        _joined(".mp3", "-b:a", "64k", *BARE, other=44100),
    ),
    "mp3 behind zeros": (
        ".mp3",
        _damaged(lambda data, n: bytes(10_000) + data, "-b:a", "64k", *BARE),
    ),
    "AAC joined": (".aac", _joined(".aac", "-c:a", "aac")),
    "AAC of two rates joined": (".aac", _joined(".aac", "-c:a", "aac", other=44100)),
    "Vorbis chained": (".ogg", _joined(".ogg", *VORBIS)),
    "Vorbis of two rates chained": (".ogg", _joined(".ogg", *VORBIS, other=44100)),
    "Opus chained": (".opus", _joined(".opus", *OPUS)),
    "FLAC in Ogg chained": (".oga", _joined(".oga", *OGG_FLAC)),
    "mp3, Xing of 0 frames": (".mp3", _xing(lambda frames: 0)),
    "mp3, Xing of a third": (".mp3", _xing(lambda frames: frames // 3)),
    "mp3, Xing without a count": (".mp3", _xing(flags=0xFE)),
    "mp3, tags behind": (".mp3", _tags_behind),
    "FLAC behind ID3v2": (".flac", _flac_with_id3),
    "FLAC of a segment": (".flac", _segments),
    "FLAC joined": (".flac", _joined(".flac")),
    "FLAC of two rates joined": (".flac", _joined(".flac", other=44100)),
    "FLAC, a third of the samples": (".flac", _flac_samples(lambda n: n // 3)),
    "FLAC, no number of samples": (".flac", _flac_samples(lambda n: 0)),
    "FLAC, the most samples": (".flac", _flac_samples(lambda n: 2**36 - 1)),
    "Opus, header says 0 Hz": (".opus", _opus_rate(0)),
    "Opus, header says 1 Hz": (".opus", _opus_rate(1)),
    "Opus, header says 8000 Hz": (".opus", _opus_rate(8000)),
    "Opus, header says 44100 Hz": (".opus", _opus_rate(44100)),
    "Opus, header says 4000000000 Hz": (".opus", _opus_rate(4_000_000_000)),
}
# These lack something, which must be told.
CUT = {
    "wav cut": (".wav", _cut()),
    "RF64 cut": (".wav", _cut("-rf64", "always")),
    "Wave64 cut": (".w64", _cut()),
    "AIFF cut": (".aiff", _cut()),
    "AU cut": (".au", _cut()),
    "CAF cut": (".caf", _cut()),
    "FLAC cut": (".flac", _cut()),
    "Vorbis cut": (".ogg", _cut(*VORBIS)),
    "Opus cut": (".opus", _cut(*OPUS)),
    "FLAC in Ogg cut": (".oga", _cut(*OGG_FLAC)),
    "mp3 cut": (".mp3", _cut("-q:a", "4")),
    "mp3 without Xing cut": (".mp3", _cut("-b:a", "64k", *BARE)),
    "AAC in MPEG-4 cut": (".m4a", _cut("-c:a", "aac", "-movflags", "faststart")),
    "Opus in WebM cut": (".webm", _cut(*OPUS)),
    "Vorbis in Matroska cut": (".mka", _cut(*VORBIS)),
    "WMA cut": (".wma", _cut("-c:a", "wmav2")),
    "mp3, garbage between frames": (".mp3", _garbage_between),
    "mp3, Xing of thrice the frames": (".mp3", _xing(lambda frames: 3 * frames)),
    "mp3, a quarter zeroed": (".mp3", _zeroed("-q:a", "4")),
    "mp3 without Xing, a quarter zeroed": (".mp3", _zeroed("-b:a", "64k", *BARE)),
    "mp3, a quarter gone": (".mp3", _gone("-q:a", "4")),
    "Vorbis, a quarter zeroed": (".ogg", _zeroed(*VORBIS)),
    "Vorbis, a quarter gone": (".ogg", _gone(*VORBIS)),
    "Vorbis, a byte damaged": (".ogg", _flipped(1, *VORBIS)),
    "Opus, a quarter zeroed": (".opus", _zeroed(*OPUS)),
    "Opus, a quarter gone": (".opus", _gone(*OPUS)),
    "FLAC, a quarter zeroed": (".flac", _zeroed()),
    "FLAC, a quarter gone": (".flac", _gone()),
    "FLAC, six bytes damaged": (".flac", _flipped(6)),
    "half of Vorbis and one more": (".ogg", _joined(".ogg", *VORBIS, first=0.5)),
    "most of Vorbis and one more": (".ogg", _joined(".ogg", *VORBIS, first=0.9)),
    "half of Opus and one more": (".opus", _joined(".opus", *OPUS, first=0.5)),
    "half of FLAC and one more": (".flac", _joined(".flac", first=0.5)),
    "Vorbis and the beginning of one more": (
        ".ogg", _damaged(lambda data, n: data + data[:3000], *VORBIS)),
    "FLAC and the beginning of one more": (
        ".flac", _damaged(lambda data, n: data + data[:60])),
}  # fmt: skip
ALL = {**PLAIN, **BY_HAND, **CUT}
KINDS = list(ALL)
# ffmpeg decodes no mp3 of a free rate, takes RIFX for little-endian, and believes these sizes;
# by kind the parts that there are, seconds and rate.
NOT_OF_FFMPEG = {
    "mp3 of LAME, free rate": [(4, RATE)],
    "wav, big-endian": [(4, RATE)],
    "wav, data of a third": [(4, RATE)],
    "RF64, data of 0 bytes": [(4, RATE)],
    "RF64, data of the most bytes": [(4, RATE)],
    "wav joined": [(2, RATE), (3, RATE)],
    "FLAC joined": [(2, RATE), (3, RATE)],
    "FLAC of two rates joined": [(2, RATE), (3, 44100)],
}


def _overwritten(data, at, rng):
    data[at : at + 1500] = rng.integers(0, 256, 1500, dtype=np.uint8).tobytes()


def _dropped(data, at, rng):
    del data[at : at + 500]


def _blanked(data, at, rng):
    data[at : at + 1000] = bytes(1000)


def _spoilt(data, at, rng):
    for place in rng.integers(1000, len(data), 60):
        data[place] ^= 0x55


# What may have become of an mp3; libmpg123 speaks of each in words of its own.
NOISY = {"overwritten": _overwritten, "dropped": _dropped, "blanked": _blanked, "spoilt": _spoilt}


def make_noisy_mp3(path, damage, seed=0):
    """Write four seconds of mp3 with damage inside, without any tool."""
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.2 * rng.standard_normal(44100 * 4), 44100, format="MP3")
    data = bytearray(path.read_bytes())
    NOISY[damage](data, len(data) // 2, rng)
    path.write_bytes(data)
    return path


def make_recording(kind, folder, channels=1, rate=RATE):
    """Write a recording of a kind into a folder and return its path."""
    ending, make = ALL[kind]
    name = "".join(letter if letter.isalnum() else "_" for letter in kind)
    target = folder / f"{name}{ending}"
    source = make_source(folder / "source.wav", rate=rate, channels=channels)
    make(source, target)
    source.unlink()
    return target


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
