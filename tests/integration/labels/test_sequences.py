"""Whatever is done in whatever order, the store is right and its history explains every label."""

import json
import random
from datetime import datetime, timedelta

import pytest

from labelkit.errors import LabelkitError
from labelkit.labels.history import find_known_clip
from labelkit.labels.undo import undo
from labelkit.maintenance.doctor import examine
from labelkit.project import create_project
from labelkit.records import Batch, ReviewProject, ReviewTask
from labelkit.stores.history import read_blame, read_history
from labelkit.stores.labels import LabelStore
from tests.support.clips import write_csv, write_tone
from tests.support.commands import call, rows
from tests.support.label_studio_server import answer
from tests.support.projects import PROBE, copy_project

START, N = ["Bird", "Dog", "Rain"], 12
OPERATIONS = (
    "import", "undo import", "undo", "rename", "merge", "retire", "label", "verify", "pull",
)  # fmt: skip


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Twelve tones of three classes, half of them verified, and what is heard of them."""
    folder = tmp_path_factory.mktemp("sequences")
    (folder / "audio").mkdir()
    project, _ = create_project(folder / "project", folder / "audio")
    lines = []
    for k in range(3 * N):
        write_tone(folder / "audio" / f"{k}.wav", 300 * (k % 3 + 1) + k, seconds=0.5)
        lines.append((f"{k}.wav", START[k % 3], int(k < N // 2)))
    file = write_csv(folder / "l.csv", ("fname", "label", "verified"), lines[:N])
    done = call(project, "import", file, "--format", "csv", "--verified-column", "verified")
    assert done.exit_code == 0, done.output
    with project.store.write() as session:
        page = ReviewProject(name="p", url="http://127.0.0.1:1", project_id=1, title="t", page="",
                             page_hash="", settings={})  # fmt: skip
        tasks = [
            ReviewTask(project="p", task_id=10 + k, clip_id=k, model_version="m", score=0.5,
                       suggested=[k % 3], page_hash="") for k in range(N)
        ]  # fmt: skip
        session.append(Batch(key="push", kind="push", actor="me", by_person=False,
                             review_projects=[page], review_tasks=tasks))  # fmt: skip
    done = call(project, "embed", *[word for change in PROBE for word in ("--set", change)])
    assert done.exit_code == 0, done.output
    return project


class Walk:
    """A project, and what it was after each batch."""

    def __init__(self, project, seed):
        self.project, self.rng, self.seen, self.clock = project, random.Random(seed), {}, 0
        self.note()

    def state(self):
        return rows(self.project, "select path, labels, state from labels_now order by clip_id")

    def last(self):
        return rows(self.project, "select max(batch_id) from batches")[0][0]

    def note(self):
        self.seen[self.last()] = self.state()

    def classes(self):
        return [n for (n,) in rows(self.project, "select name from classes order by class_id")]

    def do(self, operation):
        before, last = self.state(), self.last()
        done = getattr(self, operation.replace(" ", "_"))()
        if done is not None and done.exit_code:
            assert done.exit_code in (1, 2, 3), done.output
            assert "Traceback" not in done.output and done.stderr.startswith(("Error", "Usage"))
            if operation != "pull":
                assert (self.state(), self.last()) == (before, last), done.output
        self.check()
        self.note()

    def import_(self):
        k = self.rng.randrange(N, 3 * N)
        name = self.rng.choice([*self.classes(), f"New {self.rng.randrange(3)}"])
        lines = [(f"{k + j}.wav", name) for j in range(self.rng.randrange(1, 4)) if k + j < 3 * N]
        self.clock += 1
        file = write_csv(self.project.root / f"{self.clock}.csv", ("fname", "label"), lines)
        state = self.rng.choice(["unverified", "verified"])
        there = {path for path, _, _ in self.state()}
        done = call(self.project, "import", file, "--format", "csv", "--add-classes",
                    "--state", state)  # fmt: skip
        if not done.exit_code:
            labels = {path: labels for path, labels, _ in self.state() if path not in there}
            assert all(found == [name] for found in labels.values()), (lines, self.log())
        return done

    def undo_import(self):
        return self._undo("where kind = 'import' or undoes in (select batch_id from batches "
                          "where kind = 'import')")  # fmt: skip

    def undo(self):
        return self._undo("where batch_id > 2")

    def _undo(self, where):
        found = rows(self.project, f"select batch_id from batches {where} order by 1")
        return call(self.project, "undo", self.rng.choice(found)[0]) if found else None

    def rename(self):
        new = self.rng.choice([*START, f"Name {self.rng.randrange(4)}"])
        return call(self.project, "classes", "rename", self.rng.choice(self.classes()), new)

    def merge(self):
        old, new = (self.rng.choice(self.classes()) for _ in range(2))
        return call(self.project, "classes", "merge", old, new) if len(self.classes()) > 3 else None

    def retire(self):
        few = len(self.classes()) <= 3
        return None if few else call(self.project, "classes", "retire",
                                     self.rng.choice(self.classes()))  # fmt: skip

    def label(self):
        """Also with classes that are new, or were retired, or are called otherwise now."""
        path = self.rng.choice(self.state())[0]
        once = [name for (name,) in rows(self.project, "select name from class_rows")]
        name = self.rng.choice([*self.classes(), *once, "--none", "--reject", "Brand new"])
        done = call(self.project, "label", path, name, "--add-classes")
        if not done.exit_code:
            labels = dict((p, v) for p, v, _ in self.state())[path]
            assert labels == ([] if name.startswith("--") else [name]), (path, name, self.log())
        return done

    def verify(self):
        words = [w for change in (*PROBE, "verify.iterations=1", "verify.threshold=0",
                                  "verify.until=all")
                 for w in ("--set", change)]  # fmt: skip
        seed = str(self.rng.randrange(3))
        return call(self.project, "verify", "--recipe", "probe", "--seed", seed, *words)

    def pull(self):
        """Answers of two people, on tasks under the names that classes had once."""
        self.clock += 1
        tasks = []
        for k in self.rng.sample(range(N), 3):
            when = datetime(2026, 1, 1) + timedelta(minutes=self.clock)
            who = self.rng.randrange(1, 3)
            said = self.rng.choice([[self.rng.choice([*self.classes(), *START])], []])
            result = answer(said) if said else answer(verdict=["none"])
            note = {"id": 100 * k + who, "completed_by": {"id": who, "email": f"{who}@x.org"},
                    "result": result, "was_cancelled": False, "lead_time": 2.0,
                    "created_at": when.isoformat() + "Z",
                    "updated_at": when.isoformat() + "Z"}  # fmt: skip
            tasks.append({"id": 10 + k, "data": {"clip_id": k, "path": f"{k}.wav"}, "project": 1,
                          "annotations": [note], "updated_at": when.isoformat() + "Z"})  # fmt: skip
        file = self.project.root / f"{self.clock}.json"
        file.write_text(json.dumps(tasks))
        return call(self.project, "pull", "--from", file)

    def check(self):
        project = self.project
        problems = [f for f in examine(project, fast=True) if f.state == "problem"]
        assert problems == [], (problems, self.log())
        names, state_of, log = set(self.classes()), self.state(), self.log()
        with project.store.read() as session:
            for path, labels, state in state_of:
                assert set(labels) <= names
                clip_id = find_known_clip(session, path)
                gave = read_blame(session, clip_id, every_class=False)
                assert {row.class_ for row in gave} == set(labels), (path, log)
                assert all(row.batch_id is not None for row in gave), (path, log)
                last = [e for e in read_history(session, clip_id) if e.what == "event"][-1]
                assert (sorted(last.labels), last.state) == (sorted(labels), state), (path, log)

    def log(self):
        return rows(self.project, "select batch_id, kind, reason, undoes from batches order by 1")

    def check_past(self):
        """What was then is seen as it was then, names and places and all."""
        for batch, state in self.seen.items():
            store = LabelStore(self.project.store.path, as_of=str(batch))
            with store.read() as session:
                found = session.rows("select path, labels, state from labels_now order by clip_id")
            assert found == state, (batch, self.log())


setattr(Walk, "import", Walk.import_)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_ends_in_a_store_that_explains_itself(tones, tmp_path, seed):
    walk = Walk(copy_project(tones, tmp_path / "p"), seed)
    for _ in range(10):
        walk.do(walk.rng.choice(OPERATIONS))
    walk.check_past()
    # All of it can be taken back, the newest first.
    for batch, kind in rows(walk.project, "select batch_id, kind from batches order by 1 desc"):
        if kind in ("classes", "label", "import") and batch > 2:
            try:
                undo(walk.project, batch)
            except LabelkitError:
                continue
            walk.note()
    walk.check()
    walk.check_past()
