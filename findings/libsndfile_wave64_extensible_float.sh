#!/usr/bin/env bash
# libsndfile 1.2.2: floats of 32 bit in a Wave64 of the extensible format are read as integers.
#
# Guess:     WAVEFORMATEXTENSIBLE names the kind of numbers by a GUID; libsndfile follows it in WAV,
#            so it does in Wave64, whose chunks have the same contents.
# Behaviour: in WAV and RF64 it does. In Wave64 the same 40 bytes are taken for PCM of 32 bit: no
#            error, the right length, and the bits of floats as if they were integers. With the short
#            format (tag 3) it reads what was written; floats of 64 bit it refuses. ffmpeg 5.1 writes
#            the extensible form for floats.
# Output seen:      wav FLOAT 0.000; rf64 FLOAT 0.000; w64 PCM_32 0.566; w64 short FLOAT 0.000 (largest
#            error at an amplitude of 0.5); w64 of doubles: LibsndfileError.
# So:        do not leave a .w64 to soundfile without looking at its subtype; the same bytes under an
#            RF64 header are read rightly, whatever their size.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip --quiet --disable-pip-version-check install soundfile==0.14.0 numpy==2.2.6 2>/dev/null

v/bin/python - <<'PY' | tee seen
import struct

import numpy as np
import soundfile

print(f"versions: soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}")
TAIL = bytes.fromhex("0000 1000 8000 00aa 0038 9b71")
W64 = {name: bytes.fromhex(tail) for name, tail in {
    b"riff": "2e91cf11a5d628db04c10000", b"wave": "f3acd3118cd100c04f8edb8a",
    b"fmt ": "f3acd3118cd100c04f8edb8a", b"data": "f3acd3118cd100c04f8edb8a",
}.items()}
rate = 16000
samples = 0.5 * np.sin(np.arange(rate) / 7)


def about(bits, extensible):
    width = bits // 8
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else 3, 1, rate, rate * width, width, bits)
    return head + struct.pack("<HHI", 22, bits, 4) + struct.pack("<I", 3) + TAIL if extensible else head


def wav(fmt, data):
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def rf64(fmt, data):
    sizes = struct.pack("<QQQI", 72 + len(fmt) + len(data), len(data), len(samples), 0)
    body = b"WAVEds64" + struct.pack("<I", 28) + sizes + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    return b"RF64\xff\xff\xff\xff" + body + b"data\xff\xff\xff\xff" + data


def w64(fmt, data):
    def chunk(name, body):
        return name + W64[name] + struct.pack("<Q", 24 + len(body)) + body + bytes(-len(body) % 8)

    body = b"wave" + W64[b"wave"] + chunk(b"fmt ", fmt) + chunk(b"data", data)
    return b"riff" + W64[b"riff"] + struct.pack("<Q", 24 + len(body)) + body


for name, make, bits, extensible in (
    ("wav", wav, 32, True), ("rf64", rf64, 32, True), ("w64", w64, 32, True),
    ("w64 short", w64, 32, False), ("w64 of doubles", w64, 64, True),
):
    data = samples.astype(f"<f{bits // 8}").tobytes()
    open("x", "wb").write(make(about(bits, extensible), data))
    try:
        with open("x", "rb") as file, soundfile.SoundFile(file) as sound:
            found, subtype = sound.read(), sound.subtype
    except soundfile.LibsndfileError as error:
        print(f"{name}: {type(error).__name__}")
        continue
    wrong = np.abs(found - samples).max()
    print(f"{name}: {subtype}, {len(found)} samples, wrong by {wrong:.3f}")
PY
cat > wanted <<'TXT'
versions: soundfile 0.14.0, 1.2.2
wav: FLOAT, 16000 samples, wrong by 0.000
rf64: FLOAT, 16000 samples, wrong by 0.000
w64: PCM_32, 16000 samples, wrong by 0.566
w64 short: FLOAT, 16000 samples, wrong by 0.000
w64 of doubles: LibsndfileError
TXT
if ! diff wanted seen; then
  echo "this has changed: look again"
  exit 1
fi
