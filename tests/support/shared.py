"""What is made once for a whole run of the suite, whichever worker comes first."""

import fcntl
import os
import pickle
import shutil
import tempfile
from pathlib import Path

# Names the folder to the workers, which inherit the environment of who starts them.
VARIABLE = "LABELKIT_TESTS_SHARED"


def begin():
    """Make the folder of this run; False where whoever started this process has made it."""
    if VARIABLE in os.environ:
        return False
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="labelkit-tests-")
    return True


def end():
    """Remove it again, in the process that made it."""
    shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


def made(name):
    """What ``once`` gives for a name, or None where nobody asked for it."""
    done = _folder(name).with_suffix(".pickle")
    return pickle.loads(done.read_bytes()) if done.exists() else None


def _folder(name):
    return Path(os.environ[VARIABLE]) / name


def once(name, make):
    """Have ``make(folder)`` fill a folder, once a run.

    Args:
        name: Of the folder.
        make: Makes what belongs in it; others wait meanwhile.

    Returns:
        The folder, which is only ever read, and what ``make`` returned, pickled.
    """
    folder = _folder(name)
    done = folder.with_suffix(".pickle")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            # Whoever came first may have failed half way.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            done.write_bytes(pickle.dumps(make(folder)))
        return folder, pickle.loads(done.read_bytes())
