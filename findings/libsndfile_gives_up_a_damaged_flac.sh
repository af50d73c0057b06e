#!/usr/bin/env bash
# libsndfile 1.2.2: a FLAC with one damaged frame is read up to that frame, and no further.
#
# Guess:     frames of FLAC begin with a mark and carry checksums so that a decoder finds the next whole
#            one (RFC 9639, 9.1); soundfile raises for the damaged one, and the next read goes on.
# Behaviour: the read at the damaged frame raises; all further ones return nothing, without an error. A
#            loop that ends at an empty block so loses the rest in silence; read() of the whole file
#            raises and gives nothing. The frames behind are all right: a file made of the same header
#            (with 0, for unknown, as its length) and of what begins at the next frame is read to its end.
# Output seen:      10 s with a byte changed in the middle: 4.86 s by blocks, 1 error, then nothing; from
#            the next frame on 4.88 s more; FFmpeg by PyAV: 10.00 s.
# So:        to hear a damaged FLAC, look for the next frame header by its CRC-8 and open anew there; a
#            length that is shorter than STREAMINFO says is the sign.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip --quiet --disable-pip-version-check install soundfile==0.14.0 numpy==2.2.6 av==18.1.0 2>/dev/null

v/bin/python - <<'PY' | tee seen
import io
import re

import av
import numpy as np
import soundfile

print(f"versions: soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}; av {av.__version__}")
rate = 16000
sound = np.random.default_rng(0).normal(0, 0.1, 10 * rate)
soundfile.write("x.flac", sound, rate, subtype="PCM_16")
data = bytearray(open("x.flac", "rb").read())
data[len(data) // 2] ^= 0x55
open("x.flac", "wb").write(data)


class Endless(soundfile.SoundFile):
    def seekable(self):
        return False


def read_on(file):
    n, errors = 0, 0
    for _ in range(1000):
        try:
            n += len(block := file.read(1024))
        except soundfile.LibsndfileError:
            errors += 1
            continue
        if not len(block):
            break
    return n / rate, errors


seconds, errors = read_on(Endless("x.flac"))
print(f"by blocks: {seconds:.2f} s, {errors} error{'s' * (errors != 1)}")

# The header ends behind the last block of metadata; a frame's number follows its fixed bytes.
end, last = 4, False
while not last:
    last = data[end] >= 128
    end += 4 + int.from_bytes(data[end + 1 : end + 4], "big")


def crc8(head):
    value = 0
    for byte in head:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 7) & 255 if value & 128 else value << 1
    return value


def is_frame(at):
    n = 4 + (1 if data[at + 4] < 128 else 2)  # So short a file numbers its frames in two bytes.
    return crc8(data[at : at + n]) == data[at + n]


frames = [m.start() for m in re.finditer(rb"\xff\xf8", data) if m.start() >= end and is_frame(m.start())]
later = next(at for at in frames if at > len(data) // 2)
header = bytearray(data[:end])
header[18:26] = (int.from_bytes(header[18:26], "big") >> 36 << 36).to_bytes(8, "big")
seconds, errors = read_on(Endless(io.BytesIO(bytes(header) + bytes(data[later:]))))
print(f"from the next frame on: {seconds:.2f} s more, {errors} errors")

n = 0
with av.open("x.flac") as container:
    for packet in container.demux(audio=0):
        try:
            n += sum(frame.samples for frame in packet.decode())
        except av.error.FFmpegError:
            pass
print(f"PyAV: {n / rate:.2f} s")
PY
cat > wanted <<'TXT'
versions: soundfile 0.14.0, 1.2.2; av 18.1.0
by blocks: 4.86 s, 1 error
from the next frame on: 4.88 s more, 0 errors
PyAV: 10.00 s
TXT
if ! diff wanted seen; then
  echo "this has changed: look again"
  exit 1
fi
echo "seen: $(tr '\n' ';' < seen)"
