"""Disks of their own, in memory."""

import subprocess
from contextlib import contextmanager

from tests.support.requirements import absent


@contextmanager
def small_disk(folder, size):
    """A tmpfs of so many MB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        absent("small-disk", f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
