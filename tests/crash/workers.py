"""What the children do until they are killed: real work, each commit noted once it is in."""

import itertools
import json
import os
import signal
import sys

import numpy as np

from labelkit.config import FormatSpec, read_recipe
from labelkit.errors import InvalidInput
from labelkit.label_studio.client import Client
from labelkit.labels.importing import import_labels
from labelkit.labels.undo import undo
from labelkit.project import open_project
from labelkit.records import Batch, LabelEvents
from labelkit.review.pull import pull
from labelkit.runs.verify import verify
from labelkit.states import MACHINE_STATES
from labelkit.stores import materialised
from labelkit.stores.append import WriteSession
from labelkit.stores.labels import LabelStore
from tests.crash.contents import PEOPLE, batch_contents, read_notes

STORE, NOTES = "labels.duckdb", "notes"
IMPORT_STEP = 40
N_UNDONE = 40
PROBE = (
    "features.sample_rate=8000",
    "features.n_fft=512",
    "features.n_mels=32",
    "verify.iterations=10",
    "verify.threshold=0.2",
    "verify.until=all",
    "verify.keep=last",
)


class Notes:
    """A file that lasts, one line a fact; ``die_after`` commits the process kills itself."""

    def __init__(self, path, die_after=None):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self.last = max(read_notes(path)[0], default=0)
        self.left = die_after

    def write(self, *said):
        os.write(self.file, json.dumps(said).encode() + b"\n")
        os.fsync(self.file)

    def commits(self):
        """From here on every commit of this process is noted, before the file is closed."""
        mark = LabelStore._write_mark

        def note(store, con):
            mark(store, con)
            for batch in batch_contents(con, self.last):
                self.write("batch", *batch)
                self.last = batch[0]
            if self.left is not None:
                self.left -= 1
                if self.left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        LabelStore._write_mark = note


def child(work, folder, seed, die_after, setting):
    """The body of a child process: its output goes to a file, its commits to the notes."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.environ["OMP_NUM_THREADS"] = "1"
    notes = Notes(folder / NOTES, die_after)
    notes.commits()
    materialised.TAIL = 500
    WORK[work](folder, notes, np.random.default_rng(seed), setting)
    sys.stderr.flush()


def append(folder, notes, rng, setting):
    """Batches of 1 to 100,000 events without end, some of them by people."""
    store = LabelStore(folder / STORE)
    while True:
        append_one(store, notes, rng, largest=setting or 100_000)


def append_one(store, notes, rng, *, largest):
    """One batch of events, its key and size noted as wanted before."""
    person = rng.random() < 0.15
    n = int(rng.integers(1, 20)) if person else int(largest ** rng.uniform(0, 1))
    key = rng.bytes(12).hex()
    with store.write() as session:
        free = session.rows(
            "select clip_id from current_events where ? or list_contains(?, state) "
            "order by clip_id",
            [person, list(MACHINE_STATES)],
        )
        clip_ids = rng.choice(np.array(free)[:, 0], n)
        labels = rng.integers(0, 10, (n, 2))
        states = np.array(PEOPLE if person else MACHINE_STATES)[rng.integers(0, 2, n)]
        events = LabelEvents(
            clip_ids=clip_ids,
            states=states.tolist(),
            labels=labels.tolist(),
            sources=["crash"] * n,
        )
        notes.write("wanted", key, n)
        session.append(Batch(key=key, kind="crash", actor="child", by_person=person, events=events))


def checkpoint(folder, notes, rng, setting):
    """Several transactions on one connection, then a checkpoint; noted when it begins."""
    store = LabelStore(folder / STORE)
    while True:
        with store.connect(read_only=False) as con:
            for _ in range(int(rng.integers(1, 5))):
                con.execute("begin")
                session = WriteSession(con)
                n = int(rng.integers(1, 3_000))
                key = rng.bytes(12).hex()
                free = session.rows(
                    "select clip_id from current_events where list_contains(?, state) "
                    "order by clip_id",
                    [list(MACHINE_STATES)],
                )
                notes.write("wanted", key, n)
                events = LabelEvents(
                    clip_ids=rng.choice(np.array(free)[:, 0], n),
                    states=["self_verified"] * n,
                    labels=rng.integers(0, 10, (n, 1)).tolist(),
                    sources=["crash"] * n,
                )
                session.append(
                    Batch(key=key, kind="crash", actor="child", by_person=False, events=events)
                )
                con.execute("commit")
                store._write_mark(con)
            notes.write("checkpoint")
            con.execute("checkpoint")


def importing(folder, notes, rng, setting):
    """A label file that grows, imported after each growth; what is there already is harmless."""
    project = open_project(folder)
    with project.store.read() as session:
        done = session.rows("select count(*) from clips")[0][0] // IMPORT_STEP
    spec = FormatSpec(verified_column="ok")
    source = folder / "growing.csv"
    for number in range(max(1, done - 1), setting + 1):
        rows = (f"{k}.wav,class{k % 10},{k % 7 == 0:d}\n" for k in range(number * IMPORT_STEP))
        source.write_text("fname,label,ok\n" + "".join(rows))
        import_labels(project, source, "csv", spec, metadata_only=True)


def undoing(folder, notes, rng, setting):
    """Batches taken back one after the other, and then every second undo.

    It goes on with the command that was stopped, which may be done already.
    """
    project = open_project(folder)
    # Batch 1 brought the clips, then came the machine's, then the people's one.
    last = N_UNDONE + 1
    commands = [*range(2, last + 1), *range(last + 2, last + 2 + N_UNDONE, 2)]
    with project.store.read() as session:
        done = session.last_batch() - (last + 1)
    for batch_id in commands[max(0, done - 1) :]:
        try:
            undo(project, batch_id)
        except InvalidInput as error:
            if "was taken back by batch" not in str(error):
                raise


def verifying(folder, notes, rng, setting):
    """Self-verification by a classifier on embeddings, with one seed after the other."""
    project = open_project(folder)
    for seed in range(setting):
        verify(project, read_recipe("probe", PROBE), seed=seed, workers=1)


def pulling(folder, notes, rng, setting):
    """Answers from a Label Studio, a few a page."""
    whole = Client.pages
    Client.pages = lambda self, *args, **given: whole(self, *args, **(given | {"size": 3}))
    pull(open_project(folder), token_file=setting)


def reopen(folder, notes, rng, setting):
    """Open and close the store, to read and to write by turns."""
    store = LabelStore(folder / STORE)
    for number in itertools.count():
        notes.write("opening")
        with store.connect(read_only=bool(number % 2) == setting) as con:
            con.execute("select count(*) from labels_now").fetchall()


WORK = {
    "append": append,
    "checkpoint": checkpoint,
    "import": importing,
    "undo": undoing,
    "verify": verifying,
    "pull": pulling,
    "reopen": reopen,
}
