#!/usr/bin/env bash
# librosa 0.11.0: noise that is stretched in time begins louder than it goes on.
#
# Guess:     time_stretch keeps the level: a phase vocoder keeps the magnitudes of the spectra, so
#            stationary noise stays stationary.
# Behaviour: the first frames take their phases from the recording and fit together; further on each
#            bin turns by itself, overlapping windows cancel in part, and the level falls within some
#            windows, to stay there. A recording that is stretched in pieces so has a bump at each
#            seam, and a short clip another level than a long one.
# Output seen:      noise at 0.8 and at 1.25 times the speed is 3.0 dB louder in its first 0.06 s than
#            from 1 s on; unstretched -0.1 dB; a tone 1.2 and 0.0 dB.
# So:        give each piece a run-in that is thrown away, and do not compare levels of stretched
#            clips of unlike lengths.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip --quiet --disable-pip-version-check install librosa==0.11.0 numpy==2.2.6 2>/dev/null

v/bin/python - <<'PY' | tee seen
import librosa
import numpy as np

print(f"versions: librosa {librosa.__version__}")
rate = 16000
tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate)


def bump(samples):
    """How much louder the first 0.06 s are, in dB."""
    first, later = samples[: rate // 16], samples[rate:-rate]
    return 10 * np.log10(np.square(first).mean() / np.square(later).mean())


def noise(k):
    return 0.1 * np.random.default_rng(k).standard_normal(4 * rate).astype(np.float32)


for name, make in (("noise", noise), ("tone", lambda k: tone.astype(np.float32))):
    for speed in (1.0, 0.8, 1.25):
        found = []
        for k in range(8):
            sound = make(k)
            found.append(bump(sound if speed == 1 else librosa.effects.time_stretch(sound, rate=speed)))
        print(f"{name}, {speed} times the speed: {np.mean(found):.1f} dB")
PY
cat > wanted <<'TXT'
versions: librosa 0.11.0
noise, 1.0 times the speed: -0.1 dB
noise, 0.8 times the speed: 3.0 dB
noise, 1.25 times the speed: 3.0 dB
tone, 1.0 times the speed: 0.0 dB
tone, 0.8 times the speed: 1.2 dB
tone, 1.25 times the speed: -0.0 dB
TXT
if ! diff wanted seen; then
  echo "this has changed: look again"
  exit 1
fi
echo "seen: $(tr '\n' ';' < seen)"
