"""Files of arrays that claim what they do not hold: one line, and no memory taken for it."""

import io
import resource
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from labelkit.cleaning.external import import_probs
from labelkit.errors import InvalidInput
from labelkit.stores.embeddings import read_vectors
from labelkit.stores.foreign_arrays import FLOOR, RATIO
from tests.support.labelled import CLASSES, PATHS, judge

NAMES = {"probs": ("paths", "classes", "probs"), "vectors": ("paths", "embeddings")}


def stored(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def claim(shape, descr="<f8"):
    """The header of an array of this shape, and eight bytes."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(118 - 11).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)


def arrays(kind):
    matrix = judge()
    found = {"paths": stored(np.array(PATHS)), "classes": stored(np.array(CLASSES)),
             "probs": stored(matrix), "embeddings": stored(matrix)}  # fmt: skip
    return {name: found[name] for name in NAMES[kind]}


def write(file, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(f"{name}.npy", data)
    return file


def read(kind, file, labelled):
    if kind == "vectors":
        return read_vectors(file)
    return import_probs(labelled, file)


BAD = {
    "rows": lambda a, last: {**a, last: claim((2**40, 4))},
    "columns": lambda a, last: {**a, last: claim((46, 2**40))},
    "more than there can be": lambda a, last: {**a, last: claim((2**62, 2**62))},
    "of paths": lambda a, last: {**a, "paths": claim((46,), "<U1000000000")},
    "objects": lambda a, last: {**a, last: claim((46,), "|O")},
    "half a header": lambda a, last: {**a, last: claim((46, 4))[:60]},
    "no header": lambda a, last: {**a, last: b"no array at all"},
    "nothing": lambda a, last: {**a, last: b""},
    "negative": lambda a, last: {**a, last: claim((-1, 4))},
    "a header like a program": lambda a, last: {
        **a, last: claim("(46, 4), 'x': __import__('os')")
    },
    "a billion texts of no length": lambda a, last: {**a, "paths": claim((10**9,), "<U0")},
    "a version nobody knows": lambda a, last: {**a, last: b"\x93NUMPY\x09\x00" + a[last][8:]},
    "none of the names": lambda a, last: {"else": a[last]},
}  # fmt: skip


@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.parametrize("fault", list(BAD))
def test_what_an_archive_claims_is_one_line(labelled, tmp_path, kind, fault):
    good = arrays(kind)
    file = write(tmp_path / "x.npz", BAD[fault](good, NAMES[kind][-1]))
    with pytest.raises(InvalidInput) as caught:
        read(kind, file, labelled)
    assert "\n" not in str(caught.value) and "x.npz" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.parametrize("shape", [(2**40, 4), (46, 2**40), (46, 5), (-1, 4)])
def test_what_an_array_claims_is_one_line(labelled, tmp_path, kind, shape):
    (tmp_path / "x.npy").write_bytes(claim(shape))
    with pytest.raises(InvalidInput, match=r"x\.npy") as caught:
        read(kind, tmp_path / "x.npy", labelled)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.parametrize("where", ["the last", "one nobody asks for"])
def test_what_unpacks_to_much_more_than_it_is_takes_no_memory(labelled, tmp_path, kind, where):
    """Harmless: 128 MB of zeros, read where a process may have 1 GB in all."""
    name = NAMES[kind][-1] if where == "the last" else "else"
    zeros = stored(np.zeros((2**24, 1)))
    file = write(tmp_path / "x.npz", {**arrays(kind), name: zeros}, zipfile.ZIP_DEFLATED)
    assert len(zeros) > max(FLOOR, RATIO * file.stat().st_size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidInput, match="it unpacks to 134,2"):
        read(kind, file, labelled)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000


def test_what_lies_beside_the_arrays_does_no_harm(tmp_path):
    file = write(tmp_path / "x.npz", arrays("vectors"))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("README.txt", "read me")
    assert read_vectors(file)[0] == list(PATHS)


def test_what_is_compressed_well_is_read(tmp_path):
    matrix = np.zeros((3, 10_000))
    np.savez_compressed(tmp_path / "x.npz", paths=["a", "b", "c"], embeddings=matrix)
    paths, found = read_vectors(tmp_path / "x.npz")
    assert paths == ["a", "b", "c"] and found.shape == (3, 10_000)


def test_nothing_pickled_is_run(tmp_path, labelled):
    class Marks:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    np.savez(tmp_path / "x.npz", paths=np.array([Marks()], object), classes=CLASSES,
             probs=judge(), embeddings=np.array([[Marks()]], object))  # fmt: skip
    np.save(tmp_path / "x.npy", np.array([[Marks()]], object))
    for file in ("x.npz", "x.npy"):
        for kind in NAMES:
            with pytest.raises(InvalidInput):
                read(kind, tmp_path / file, labelled)
    assert not (tmp_path / "mark").exists()


def test_the_command_line_says_it_in_one_line(labelled, tmp_path):
    file = write(tmp_path / "x.npz", {**arrays("vectors"), "embeddings": claim((2**40, 4))})
    command = [sys.executable, "-m", "labelkit", "-C", str(labelled.root), "embed",
               "--set", f"embedding.embedder=vectors:{file}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "embeddings.npy claims 35,184,372,088,832 bytes" in done.stderr
