#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): a big-endian WAV opens, and every sample has its bytes swapped.
#
# Guess:     RIFX is RIFF with its numbers the other way round, and FFmpeg's wav demuxer knows the
#            mark: it opens the file and gives rate, channels and length. So the samples are right.
# Behaviour: the codec is pcm_s16le all the same. What comes is noise at full scale, without an error.
# Output seen:      RIFX: codec pcm_s16le, 4000 samples, as written: no, with bytes swapped: yes;
#            soundfile, as written: yes. RIFF, the same samples: as written: yes.
# So:        whoever decodes by FFmpeg alone trains on noise where old workstations exported. Look for
#            the mark RIFX, and let libsndfile read those.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip --quiet --disable-pip-version-check install av==18.1.0 soundfile==0.14.0 numpy==2.2.6 2>/dev/null

v/bin/python - <<'PY' | tee seen
import av
import numpy as np
import soundfile

print(f"versions: PyAV {av.__version__}, soundfile {soundfile.__version__}")
samples = (np.arange(4000) * 7 % 5000).astype(np.int16)
for mark, endian in (("RIFX", "BIG"), ("RIFF", "LITTLE")):
    soundfile.write("x.wav", samples, 16000, subtype="PCM_16", endian=endian)
    assert open("x.wav", "rb").read(4) == mark.encode()
    with av.open("x.wav") as container:
        stream = container.streams.audio[0]
        found = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(stream)])
        codec = stream.codec_context.name
    other, _ = soundfile.read("x.wav", dtype="int16")

    def say(right):
        return "yes" if right else "no"

    print(
        f"{mark}: codec {codec}, {len(found)} samples, as written: "
        f"{say((found == samples).all())}, with bytes swapped: "
        f"{say((found.byteswap() == samples).all())}; soundfile, as written: "
        f"{say((other == samples).all())}"
    )
PY
cat > wanted <<'TXT'
versions: PyAV 18.1.0, soundfile 0.14.0
RIFX: codec pcm_s16le, 4000 samples, as written: no, with bytes swapped: yes; soundfile, as written: yes
RIFF: codec pcm_s16le, 4000 samples, as written: yes, with bytes swapped: no; soundfile, as written: yes
TXT
if ! diff wanted seen; then
  echo "this has changed: look again"
  exit 1
fi
