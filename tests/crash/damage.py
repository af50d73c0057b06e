"""Logs that are torn, zeroed, flipped or gone: a right store, or a clear refusal."""

import shutil
from collections import Counter

import numpy as np

from labelkit.errors import StoreError
from labelkit.stores.high_water_mark import mark_path
from labelkit.stores.labels import LabelStore
from tests.crash.campaign import context, make_store
from tests.crash.contents import batch_contents, find_faults, read_notes
from tests.crash.workers import NOTES, STORE, Notes, child

KINDS = ("torn", "zeroed tail", "flipped bit", "overwritten", "deleted", "garbage")


def make_torn_store(folder, n_batches=12, *, seed=0):
    """A store whose last batches are in its log alone: each child died before it closed."""
    make_store(folder, 2_000)
    with LabelStore(folder / STORE).read() as session:
        notes = Notes(folder / NOTES)
        for batch in batch_contents(session._con):
            notes.write("batch", *batch)
    for number in range(n_batches):
        process = context().Process(target=child, args=("append", folder, seed + number, 1, 200))
        process.start()
        process.join(120)
        assert process.exitcode == -9, (folder / "log").read_text()
    assert (folder / f"{STORE}.wal").stat().st_size > 0
    return folder


def harm(log, kind, rng):
    """Do it; what a power cut, a bad disk or a tidy user leaves."""
    content = bytearray(log.read_bytes())
    place = int(rng.integers(1, len(content)))
    match kind:
        case "torn":
            del content[place:]
        case "zeroed tail":
            content[place:] = bytes(len(content) - place)
        case "flipped bit":
            content[place] ^= 1 << int(rng.integers(8))
        case "overwritten":
            content[place : place + 3] = rng.bytes(3)[: len(content) - place]
        case "garbage":
            content[:] = rng.bytes(len(content))
    if kind == "deleted":
        log.unlink()
    else:
        log.write_bytes(content)


def run_damage(torn, folder, counts, *, seed=0):
    """Harm copies of a torn store and reopen them.

    Args:
        torn: Folder of :func:`make_torn_store`.
        folder: Where the copies go.
        counts: How many of each kind.
        seed: Everything random follows from it.

    Returns:
        Of each kind what became of it, and everything that went wrong.
    """
    rng = np.random.default_rng(seed)
    table, faults = {}, []
    for kind, n in counts.items():
        table[kind] = Counter(n=n)
        for number in range(n):
            here = folder / f"{kind}-{number}"
            shutil.copytree(torn, here)
            harm(here / f"{STORE}.wal", kind, rng)
            table[kind].update(_reopen(here, faults, read_only=bool(number % 2)))
            shutil.rmtree(here)
    return table, faults


def _reopen(here, faults, *, read_only):
    """What a reader or a writer gets with the mark, and what anybody would get without it."""
    noted, _ = read_notes(here / NOTES)
    store = LabelStore(here / STORE)
    before = {
        f.name: f.read_bytes() for f in here.glob(f"{STORE}*") if f.suffix in (".duckdb", ".wal")
    }
    found = Counter()
    try:
        with store.connect(read_only=read_only) as con:
            held = {batch[0]: batch for batch in batch_contents(con)}
            faults += [f"{here.name}: {fault}" for fault in find_faults(con)]
        if held != noted:
            faults.append(f"{here.name}: opened with {len(held)} batches of {len(noted)}")
        found["right"] += 1
        return found
    except StoreError as error:
        by_mark = "has lost something" in str(error)
        found["refused by the mark" if by_mark else "refused by DuckDB"] += 1
        if "\n" in str(error):
            faults.append(f"{here.name}: more than one line: {error}")
    if {name: _bytes(here / name) for name in before} != before:
        faults.append(f"{here.name}: the refusal changed the files")
    # Without the high-water mark DuckDB may give a whole prefix, and not a word that it is one.
    mark_path(here / STORE).unlink()
    try:
        with store.connect(read_only=True) as con:
            held = {batch[0]: batch for batch in batch_contents(con)}
            faults += [f"{here.name}, no high-water mark: {fault}" for fault in find_faults(con)]
        if held != {k: noted[k] for k in range(1, len(held) + 1)}:
            faults.append(f"{here.name}: no prefix of what was acknowledged")
        found["silent without it"] += 1
    except StoreError:
        if by_mark:
            raise
    return found


def _bytes(path):
    return path.read_bytes() if path.exists() else None


def show_damage(table):
    """What became of each kind of damage, as a table."""
    columns = [
        "n",
        "right",
        "refused by DuckDB",
        "refused by the mark",
        "silent without it",
    ]
    lines = ["  ".join(["log".ljust(12), *columns])]
    for kind, found in table.items():
        cells = [str(found[name]).rjust(len(name)) for name in columns]
        lines.append("  ".join([kind.ljust(12), *cells]))
    return "\n".join(lines)
