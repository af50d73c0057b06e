"""Decode recordings of many kinds and compare with ffmpeg, sample by sample.

The table goes into docs/recordings.md. ffmpeg, SoX and LAME must be installed.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from report import write_section

from labelkit.audio import faults, io
from tests.support.recordings import CUT, KINDS, agreement, heard, make_recording

PAGE = Path(__file__).parent.parent / "docs" / "recordings.md"


def version(command: str, *options: str) -> str:
    """Return the first line in which a tool says what it is."""
    done = subprocess.run([command, *options], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0]


def main() -> None:
    """Make every kind and print the table."""
    import av

    lines = ["| kind | Hz | samples | ffmpeg's | correlation | told |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            path = make_recording(kind, Path(folder))
            recording = io.Recording(path)
            samples = np.concatenate(list(recording.blocks()))
            theirs = heard(path, recording.rate, recording.channels)
            told = ", ".join(faults.inspect(path).faults) or "-"
        middle = "-"
        if len(theirs):
            found = agreement(samples[:, 0], theirs[:, 0])
            middle = f"{found[0 if kind not in CUT else 1]:.4f}, {np.median(found):.5f}"
        lines.append(
            f"| {kind} | {recording.rate} | {len(samples)} | {len(theirs) or '-'} | {middle} | "
            f"{told} |"
        )
    said = (
        f"{version('ffmpeg', '-version').partition(' Copyright')[0]}; "
        f"{version('sox', '--version').partition(':')[2].strip()}; "
        f"{version('lame', '--version')}; soundfile {soundfile.__version__}, "
        f"{soundfile.__libsndfile_version__}; PyAV {av.__version__}"
    )
    write_section("decoding", "\n".join([said + ".", "", *lines]), PAGE)


if __name__ == "__main__":
    main()
