"""Commands whose output a terminal reads."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios


def on_terminal(*args, columns=80, cwd=None):
    """Run labelkit with stdout on a terminal of some width; returns code, stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "labelkit", *map(str, args)], cwd=cwd, env=environment,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 2**16)
        except OSError:  # Linux says so where the other end is closed.
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    _, told = process.communicate()
    text = b"".join(parts).decode().replace("\r\n", "\n")
    return process.returncode, text, told.decode()
