"""Ten rounds of a machine and a hundred edits of people: what an undo takes back, and what not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from labelkit.config import FormatSpec, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.labels.undo import undo
from labelkit.records import Batch, LabelEvent, verdicts_of
from labelkit.runs.folds import freeze_folds
from labelkit.runs.verify import verify
from tests.support.commands import call, refused, rows
from tests.support.projects import copy_project

pytestmark = pytest.mark.slow

# One clip more of each class in each round.
RECIPE = read_recipe(
    "probe",
    (
        "features.sample_rate=8000", "features.n_fft=512", "features.n_mels=32",
        "verify.iterations=10", "verify.threshold=0.2", "verify.until=all", "verify.per_class=1",
        "verify.accumulate=true",
    ),
)  # fmt: skip
# What is made unverified the machine may decide on again.
STATES = ("verified", "relabeled", "rejected", "unverified")
SHARES = (0.1, 0.1, 0.1, 0.7)


class People:
    """Two ways to edit: files of corrections, and batches of one's own."""

    def __init__(self, project, seed):
        self.project, self.rng, self.edits = project, np.random.default_rng(seed), 0
        self.names = [name for (name,) in rows(project, "select name from classes order by all")]

    def edit(self, n):
        """Decide on ``n`` clips, half of them such as the machine has touched, if there are."""
        touched = self.clips("where clip_id in (select clip_id from label_events where run_id is "
                             "not null)")  # fmt: skip
        picked = [*self.pick(touched, n // 2), *self.pick(self.clips(), n)]
        clips = list(dict.fromkeys(picked))[:n]
        half = len(clips) // 2
        self.decide(clips[:half])
        self.correct(clips[half:])
        self.edits += len(clips)

    def clips(self, where=""):
        # Some clips are left to the machine alone.
        found = rows(self.project, f"select clip_id, path from clips {where} order by clip_id")
        return [clip for clip in found if clip[0] % 3]

    def pick(self, clips, n):
        chosen = self.rng.permutation(len(clips))[:n]
        return [clips[k] for k in chosen]

    def correct(self, clips):
        now = dict(rows(self.project, "select path, labels from labels_now"))
        said = {}
        for _, path in clips:
            others = [name for name in self.names if [name] != now[path]]
            said[path] = str(self.rng.choice([*others, "remove"] if now[path] else others))
        file = self.project.root / "corrections.json"
        file.write_text(json.dumps(said))
        report = import_labels(self.project, file, "corrections", FormatSpec())
        assert report.changed == len(clips)

    def decide(self, clips):
        with self.project.store.write() as session:
            labels = dict(session.rows("select clip_id, labels from current_events"))
            events = []
            for clip_id, _ in clips:
                state = str(self.rng.choice(STATES, p=SHARES))
                wanted = {"relabeled": [int(self.rng.integers(len(self.names)))], "rejected": []}
                events.append(LabelEvent(clip_id=clip_id, state=state, source="ear",
                                         labels=wanted.get(state, labels[clip_id])))  # fmt: skip
            session.append(Batch(
                key=f"ear {session.last_batch()}", kind="edit", actor="ann", by_person=True,
                events=events,
                verdicts=[v for e in events for v in verdicts_of(e, "ear", labels[e.clip_id])],
            ))  # fmt: skip


@pytest.fixture(scope="module")
def edited(imported_project, tmp_path_factory):
    """A project after ten rounds, with edits before, between and after; only ever read."""
    project = copy_project(imported_project, tmp_path_factory.mktemp("rounds") / "p")
    freeze_folds(project, n=3)
    people = People(project, seed=3)
    people.edit(6)
    found = verify(project, RECIPE, workers=1, on_round=lambda row: people.edit(8))
    people.edit(10)
    assert people.edits >= 100
    return project, found["run_id"]


@pytest.fixture
def project(edited, tmp_path):
    """A copy to write to."""
    return copy_project(edited[0], tmp_path / "p")


def of_run(project, run_id):
    """The batches of the run that changed labels."""
    return [
        batch_id
        for (batch_id,) in rows(
            project,
            "select distinct e.batch_id from label_events e join batches b using (batch_id) "
            f"where b.run_id = '{run_id}' order by all",
        )
    ]


def replay(project, gone):
    """What the clips are without some batches, by plain Python."""
    undos = {b for (b,) in rows(project, "select batch_id from batches where kind = 'undo'")}
    people = {b for (b,) in rows(project, "select batch_id from batches where by_person")}
    state = {}
    for batch_id, clip_id, name, labels in rows(
        project, "select batch_id, clip_id, state, labels from label_events order by event_id"
    ):
        if batch_id in gone or batch_id in undos:
            continue
        last, said, _ = state.get(clip_id, (None, None, None))
        decided = last in people and said in STATES[:3]
        if batch_id in people or not decided:
            state[clip_id] = (batch_id, name, labels)
    return state


def now(project):
    found = rows(project, "select clip_id, state, labels from current_events")
    return {clip_id: (state, labels) for clip_id, state, labels in found}


def agrees(project, gone):
    """Every clip is what it would be without the batches; and nothing that people said is."""
    expected, found = replay(project, gone), now(project)
    assert found == {clip: (state, labels) for clip, (_, state, labels) in expected.items()}
    people = {b for (b,) in rows(project, "select batch_id from batches where by_person")}
    return {clip for clip, (batch_id, *_) in expected.items() if batch_id in people}


def last_words(project):
    """The last thing that people said of each clip, with whether a machine spoke after them."""
    found = {}
    for clip_id, person, state, labels in rows(
        project,
        "select clip_id, by_person, state, labels from label_events join batches using (batch_id) "
        "where kind <> 'undo' order by event_id",
    ):
        if person:
            found[clip_id] = (state, labels)
    return found


def test_the_rounds_met_the_edits(edited):
    """Clips the machine touched before a person and after; and some it had for itself."""
    project, run_id = edited
    batches = of_run(project, run_id)
    assert len(batches) >= 8
    orders = {
        "".join("p" if person else "m" for person in told)
        for (told,) in rows(
            project,
            "select list(by_person order by event_id) from label_events "
            "join batches using (batch_id) group by clip_id",
        )
    }
    assert any("mp" in order for order in orders) and any("ppm" in order for order in orders)
    assert any(order.startswith("pm") and "p" not in order[1:] for order in orders)


def test_each_round_is_taken_back_and_no_edit(project, edited):
    run_id = edited[1]
    batches = of_run(project, run_id)
    order = np.random.default_rng(0).permutation(batches).tolist()
    people = People(project, seed=4)
    gone = set()
    for number, batch_id in enumerate(order):
        undo(project, batch_id)
        gone.add(batch_id)
        agrees(project, gone)
        if number % 4 == 2:
            people.edit(4)
            agrees(project, gone)
    # Nothing of the machine is left, and people have the last word wherever they had one.
    assert all(now(project)[clip] == said for clip, said in last_words(project).items())
    assert rows(project, "select count(*) from labels_now where state = 'self_verified'") == [(0,)]
    standing = rows(
        project,
        "select count(*) from label_states where verdict is not null and not by_person",
    )
    assert standing == [(0,)]
    # One comes back alone.
    [(back,)] = rows(project, f"select batch_id from batches where undoes = {order[3]}")
    undo(project, back)
    agrees(project, gone - {order[3]})


def test_the_run_is_taken_back_at_once_and_comes_back(project, edited):
    run_id = edited[1]
    batches, before = of_run(project, run_id), now(project)
    history = rows(project, "from label_events order by event_id")
    tried = undo(project, run_id, dry_run=True)
    assert (rows(project, "from label_events order by event_id"), now(project)) == (history, before)
    found = undo(project, run_id)
    assert found.undoes == tried.undoes == batches and tried.batch is None
    assert replace(found, batch=None) == tried
    decided = agrees(project, set(batches))
    assert decided and all(now(project)[c] == said for c, said in last_words(project).items())
    # A clip was set back once, whatever the number of rounds that touched it.
    changed = {clip for clip in before if before[clip] != now(project)[clip]}
    first = found.batch[0]
    events = rows(project, f"select clip_id from label_events where batch_id >= {first}")
    assert sorted(clip for (clip,) in events) == sorted(changed)
    assert found.clips == len(changed)
    touched = rows(
        project,
        "select count(distinct clip_id) from label_events where batch_id in "
        f"({', '.join(map(str, batches))})",
    )
    assert found.clips + found.left == touched[0][0]
    assert rows(project, "from label_events order by event_id")[: len(history)] == history
    # Of the run nothing stands; and each of its rounds can stand again.
    refused(call(project, "undo", run_id), f"{run_id} changed nothing that still stands")
    gone = set(batches)
    for undone, by in zip(batches, found.batch, strict=True):
        undo(project, by)
        gone.discard(undone)
        agrees(project, gone)
    assert now(project) == before
    again = undo(project, run_id)
    assert again.clips == found.clips and len(again.undoes) == len(batches)
    agrees(project, set(batches))


def test_edits_can_be_taken_back_between_the_rounds(project, edited):
    """The machine decides on a clip that a person let go: their word comes back, by a person."""
    run_id = edited[1]
    batches = of_run(project, run_id)
    people = [b for (b,) in rows(
        project,
        "select batch_id from batches where by_person and batch_id not in "
        f"(select batch_id from clips) and batch_id > {batches[0]} order by batch_id",
    )]  # fmt: skip
    assert len(people) > 10
    gone = set()
    for batch_id in (people[0], batches[-1], people[-1], batches[0], people[5]):
        undo(project, batch_id)
        gone.add(batch_id)
        agrees(project, gone)


def test_edits_that_stand_again_cover_what_the_machine_did_meanwhile(project):
    """Edits go, the machine decides where it may, and in any order all of it goes and comes."""
    rng = np.random.default_rng(5)
    edits = [b for (b,) in rows(
        project,
        "select distinct e.batch_id from label_events e join batches b using (batch_id) "
        "where b.by_person and e.batch_id not in (select batch_id from clips) order by all",
    )]  # fmt: skip
    edits = sorted(rng.permutation(edits)[:12].tolist())
    tips = {b: b for b in edits}
    for batch_id in edits:
        tips[batch_id] = undo(project, batch_id).batch
    gone = set(edits)
    agrees(project, gone)
    with project.store.write() as session:
        free = session.rows("select clip_id, labels from current_events "
                            "where state = 'unverified' order by clip_id")  # fmt: skip
        events = [LabelEvent(clip_id=clip, state="self_verified", labels=labels, source="x")
                  for clip, labels in free]  # fmt: skip
        receipt = session.append(Batch(
            key="meanwhile", kind="verify", actor="labelkit", by_person=False, events=events,
            verdicts=[v for e in events for v in verdicts_of(e, "meanwhile")],
        ))  # fmt: skip
    tips[receipt.batch_id] = receipt.batch_id
    covered = 0
    for batch_id in rng.permutation([*edits, *rng.choice([*tips], 6)]).tolist():
        before = now(project)
        target = tips[batch_id] if batch_id in gone else batch_id
        tips[batch_id] = undo(project, target).batch
        gone ^= {batch_id}
        agrees(project, gone)
        after = now(project)
        covered += sum(before[c][0] == "self_verified" and after[c][0] in STATES[:3] for c in after)
    assert covered > 5
