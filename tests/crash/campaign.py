"""Killing children at random moments, and judging what they leave."""

import multiprocessing
import shutil
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from labelkit.config import FormatSpec, ReviewSpec, read_recipe
from labelkit.errors import StoreError
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.records import Batch, Clip, LabelEvents
from labelkit.review.push import push
from labelkit.review.queue import Choice
from labelkit.review.setup import set_up
from labelkit.runs.dataset import read_dataset
from labelkit.runs.folds import freeze_folds
from labelkit.stores.high_water_mark import read_mark
from labelkit.stores.labels import LabelStore
from tests.crash.contents import batch_contents, everything, find_faults, read_notes
from tests.crash.workers import (
    N_UNDONE,
    NOTES,
    PROBE,
    STORE,
    Notes,
    child,
)
from tests.support.label_studio_server import answer
from tests.support.projects import allow_several

N_CLIPS = 20_000
# Seconds a child may live before a kill that waits for nothing in particular.
SPANS = {"append": 1.0, "checkpoint": 0.6, "import": 1.5, "undo": 1.5, "verify": 4.0, "pull": 2.5}
# Kills after which endless work starts on a new store, which keeps the judging quick.
RENEW = 8


@dataclass
class Row:
    """What became of one kind of work under fire."""

    work: str
    kills: int = 0
    reopen_kills: int = 0
    with_log: int = 0
    acknowledged: int = 0
    not_yet: int = 0
    finished: int = 0
    lost: int = 0
    partial: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)

    def passed(self):
        return not (self.lost or self.partial or self.refused or self.faults)


def show(rows):
    """Rows of numbers as a table."""
    lines = [
        [*(name.replace("_", " ") for name in asdict(rows[0]) if name != "faults")],
        *([str(value) for name, value in asdict(row).items() if name != "faults"] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.rjust(width) if k else cell.ljust(width)
                  for k, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]  # fmt: skip
    return "\n".join([*table, *(f"{row.work}: {fault}" for row in rows for fault in row.faults)])


def context():
    """Children of a process that has imported everything and opened nothing: quick to start."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.crash.workers"])
    return found


class Campaign:
    """One kind of work, killed again and again on copies of a template.

    Args:
        work: A name of ``workers.WORK``.
        template: Folder of the store or project it begins with.
        folder: Where the copies go.
        setting: What the work needs besides.
        seed: Everything random follows from it.
    """

    def __init__(self, work, template, folder, *, setting=None, seed=0):
        self.row = Row(work)
        self.template, self.folder, self.setting = template, folder, setting
        self.rng = np.random.default_rng([seed, *work.encode()])
        self.context = context()
        self.round = 0
        self.expected = None

    def run(self, kills):
        """Kill so often; work that ends is compared with the same work unkilled."""
        if self.row.work not in ("append", "checkpoint"):
            whole = self._renew("whole")
            process = self._start(whole, self.row.work)
            process.join(600)
            self._check_exit(process, whole)
            self.expected = self._everything(whole)
        while self.row.kills < kills:
            self._episode(kills)
        return self.row

    def _episode(self, kills):
        self.round += 1
        here = self._renew(f"round-{self.round}")
        before = self.row.kills
        while self.row.kills < kills and (self.expected or self.row.kills < before + RENEW):
            if self._kill(here, self.row.work, SPANS[self.row.work]):
                self.row.kills += 1
            else:
                self._compare(here)
                break
            if self.rng.random() < 0.25:
                self.row.reopen_kills += self._kill(here, "reopen", 0.1)
            self._judge(here)
        else:
            if self.expected:
                # The last kill is behind it: the same command now ends like any other.
                process = self._start(here, self.row.work)
                process.join(600)
                self._check_exit(process, here)
                self._compare(here)
        self.row.acknowledged += len(read_notes(here / NOTES)[0])
        shutil.rmtree(here)

    def _renew(self, name):
        here = self.folder / self.row.work / name
        shutil.copytree(self.template, here)
        with LabelStore(here / STORE).read() as session:
            notes = Notes(here / NOTES)
            for batch in batch_contents(session._con):
                notes.write("batch", *batch)
        return here

    def _start(self, here, work, die_after=None):
        seed = int(self.rng.integers(2**31))
        setting = bool(seed % 2) if work == "reopen" else self.setting
        process = self.context.Process(target=child, args=(work, here, seed, die_after, setting))
        process.start()
        return process

    def _kill(self, here, work, span):
        """Kill a child at a random moment; False if its work was done before."""
        way = self.rng.choice(["time", "note", "itself"])
        if work == "reopen":
            way = "note"
        if way == "itself":
            # Between a commit and the close of the file: the log is left behind.
            process = self._start(here, work, die_after=int(self.rng.integers(1, 4)))
            process.join(600)
        else:
            size = (here / NOTES).stat().st_size
            process = self._start(here, work)
            if way == "time":
                process.join(self.rng.uniform(0, span))
            else:
                while process.is_alive() and (here / NOTES).stat().st_size == size:
                    time.sleep(0.0005)
                process.join(self.rng.choice([0.005, 0.05, 0.5]) * self.rng.uniform(0, 1))
            process.kill()
            process.join()
        if process.exitcode != -9:
            self._check_exit(process, here)
            return False
        self.row.with_log += (here / f"{STORE}.wal").exists()
        return True

    def _check_exit(self, process, here):
        if process.exitcode != 0:
            said = (here / "log").read_text(errors="replace")[-3000:]
            raise AssertionError(f"{self.row.work} ended with {process.exitcode}: {said}")

    def _judge(self, here):
        """Reopen what a kill left, to read or to write, and hold it against the notes."""
        row, (noted, wanted) = self.row, read_notes(here / NOTES)
        try:
            store = LabelStore(here / STORE)
            with store.connect(read_only=bool(self.rng.integers(2))) as con:
                held = {batch[0]: batch for batch in batch_contents(con)}
                row.faults += find_faults(con)
        except StoreError as error:
            row.refused += 1
            row.faults.append(str(error))
            return
        row.lost += len(set(noted) - set(held))
        row.partial += sum(held[k] != noted[k] for k in set(noted) & set(held))
        row.partial += sum(wanted.get(key, n) != n for _, key, n, *_ in held.values())
        row.not_yet += len(set(held) - set(noted))
        mark = read_mark(here / STORE)
        if mark is None or held.get(mark.batch_id, [0, ""])[1] != mark.batch_key:
            row.faults.append(f"the high-water mark says {mark}, the store ends at {max(held)}")

    def _everything(self, here):
        with LabelStore(here / STORE).connect(read_only=True) as con:
            return everything(con)

    def _compare(self, here):
        self._judge(here)
        self.row.finished += 1
        found = self._everything(here)
        self.row.faults += [
            f"{table} is not what unkilled work leaves"
            for table in self.expected
            if found[table] != self.expected[table]
        ]


def make_store(folder, n_clips=N_CLIPS):
    """A store of clips of ten classes, one in seven verified."""
    folder.mkdir(parents=True)
    store = LabelStore(folder / STORE)
    store.create()
    clips = [
        Clip(path=f"{k}.wav", labels=(f"class{k % 10}",),
             state="verified" if k % 7 == 0 else "unverified")
        for k in range(n_clips)
    ]  # fmt: skip
    with store.write() as session:
        session.append(
            Batch(key="clips", kind="import", actor="me", by_person=True,
                  classes=[f"class{k}" for k in range(10)], clips=clips)
        )  # fmt: skip
    return folder


def make_empty_project(folder):
    """A project without clips."""
    (folder / "audio").mkdir(parents=True)
    create_project(folder, folder / "audio")
    return folder


def make_undo_project(folder):
    """A project in which a machine decided in many batches, and people on some of it since."""
    project_folder = make_empty_project(folder)
    source = folder / "labels.csv"
    n = 20 * N_UNDONE
    source.write_text("fname,label\n" + "".join(f"{k}.wav,class{k % 10}\n" for k in range(n)))
    project, _ = create_project(project_folder, folder / "audio")
    import_labels(project, source, "csv", FormatSpec(), metadata_only=True)
    allow_several(project, [[3, 4]])
    with project.store.write() as session:
        for number in range(N_UNDONE):
            session.append(_decision(f"m{number}", range(20 * number, 20 * number + 20), False))
        session.append(_decision("people", range(0, n, 3), True))
    return folder


def _decision(key, clip_ids, by_person):
    n = len(clip_ids)
    events = LabelEvents(
        clip_ids=np.array(clip_ids),
        states=["relabeled" if by_person else "self_verified"] * n,
        labels=[[3, 4]] * n,
        sources=["test"] * n,
    )
    return Batch(key=key, kind="test", actor="t", by_person=by_person, events=events)


def make_probe_project(project):
    """Freeze the folds of a project and compute its embeddings, so that rounds are quick."""
    freeze_folds(project, n=3)
    read_dataset(project, read_recipe("probe", PROBE), workers=1)
    return project.root


def answer_project(project, server, n_answers):
    """Send the clips of a project to a Label Studio and answer some of them there.

    Returns:
        The file of the token, which children need.
    """
    token = project.root.parent / "token"
    token.write_text(server.token)
    spec = ReviewSpec(document_root=str(server.documents))
    title = f"crash {time.monotonic_ns()}"
    project.setup = set_up(project, server.url, title, spec, token_file=token)[0]
    push(project, Choice(where="subset = 'train'"), token_file=token)
    annotator = server.annotator()
    tasks = annotator.json("GET", "/api/tasks/", project=project.setup.project_id,
                           page_size=n_answers, fields="task_only")["tasks"]  # fmt: skip
    for number, task in enumerate(tasks):
        annotator.submit(task["id"], answer(["Surf"] if number % 3 else ["Bell"]))
    return token
