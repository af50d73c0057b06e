"""Random histories against a model of plain lists: what was said stays, and people stay right."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelkit.config import FormatSpec
from labelkit.errors import InvalidInput, StoreError
from labelkit.labels.importing import import_labels
from labelkit.labels.undo import undo
from labelkit.project import create_project
from labelkit.records import Batch, Clip, LabelEvent, Verdict, verdicts_of
from labelkit.stores import materialised
from labelkit.stores.labels import LabelStore

EXAMPLES = int(os.environ.get("LABELKIT_EXAMPLES", "12"))
NUMBER = st.integers(0, 99)
MACHINE = ("unverified", "self_verified")
HUMAN = ("verified", "relabeled", "rejected")
TRUSTED = ("verified", "relabeled", "self_verified")
WORDS = ("present", "absent", "unsure", "withdrawn")

# What may happen, each with numbers that the model reads modulo what there is.
STEP = st.one_of(
    st.tuples(st.just("import"), st.lists(NUMBER, min_size=1, max_size=3)),
    st.tuples(st.just("machine"), st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=4)),
    st.tuples(st.just("person"), st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=3)),
    st.tuples(st.just("correct"), st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=3)),
    st.tuples(st.just("say"), st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=3)),
    st.tuples(st.just("attempt"), st.tuples(NUMBER, NUMBER)),
    st.tuples(st.just("repeat"), NUMBER),
    st.tuples(st.just("undo"), NUMBER),
    st.tuples(st.just("undo"), NUMBER),
)


class Model:
    """The store as lists: batches with the events and verdicts they brought."""

    def __init__(self):
        self.classes, self.paths, self.batches = ["Bird", "Car", "Dog"], [], []
        self.events, self.verdicts = [], []

    def add(self, *, person, kind, actor, events=(), verdicts=(), undoes=None, clips=False):
        number = len(self.batches) + 1
        self.batches.append({"person": person, "kind": kind, "actor": actor, "undoes": undoes,
                             "clips": clips})  # fmt: skip
        self.events += [(number, *event) for event in events]
        self.verdicts += [(number, *verdict) for verdict in verdicts]
        return number

    def now(self):
        return {clip: (state, labels) for _, clip, state, labels in self.events}

    def undone_by(self, number):
        return next((n for n, b in enumerate(self.batches, 1) if b["undoes"] == number), None)

    def stands(self, number):
        by = self.undone_by(number)
        return by is None or not self.stands(by)

    def plan_undo(self, number):
        """What an undo appends, or None if it is refused."""
        if not 1 <= number <= len(self.batches):
            return None
        if not self.stands(number):
            return None
        tip = number
        while (by := self.undone_by(tip)) is not None:
            tip = by
        root = tip
        while self.batches[root - 1]["undoes"]:
            root = self.batches[root - 1]["undoes"]
        # As if the undo were there already.
        self.batches.append({"undoes": tip})
        left = [e for e in self.events
                if self.batches[e[0] - 1]["undoes"] is None and self.stands(e[0])]  # fmt: skip
        self.batches.pop()
        stood = {}
        for batch, clip, state, labels in left:
            person = self.batches[batch - 1]["person"]
            # A machine overrides nobody who decided, whatever was taken back meanwhile.
            if person or clip not in stood or not stood[clip][2]:
                stood[clip] = (state, labels, person and state in HUMAN)
        stood = {clip: (state, labels) for clip, (state, labels, _) in stood.items()}
        mine = sorted({clip for batch, clip, *_ in self.events if batch == root})
        events = [(clip, *stood[clip]) for clip in mine if stood[clip] != self.now()[clip]]
        said = any(batch == root for batch, *_ in self.verdicts)
        if not events and not said and self.batches[tip - 1]["kind"] != "undo":
            return None
        person = self.batches[tip - 1]["person"] or any(e[1] in HUMAN for e in events)
        return tip, events, person

    def label_states(self):
        last = {}
        for number, (batch, clip, cls, word) in enumerate(self.verdicts):
            who = self.batches[batch - 1]
            if self.stands(batch):
                last[clip, cls, who["actor"], who["person"]] = (number, word, batch)
        said = {}
        for (clip, cls, actor, person), (number, word, batch) in last.items():
            if word != "withdrawn":
                one = (person, number, word, actor, batch)
                said[clip, cls] = max(said.get((clip, cls), (False, -1)), one)
        given = {(clip, cls) for clip, (_, labels) in self.now().items() for cls in labels}
        return sorted(
            (clip, self.classes[cls], (clip, cls) in given,
             *((found[2], found[0], found[3], found[4]) if found else (None,) * 4))
            for clip, cls in given | set(said)
            for found in [said.get((clip, cls))]
        )  # fmt: skip

    def flips(self):
        before, found = {}, []
        for event_id, (batch, clip, _, labels) in enumerate(self.events):
            if clip in before:
                found += [(event_id, batch, clip, self.classes[c], "added")
                          for c in labels if c not in before[clip]]  # fmt: skip
                found += [(event_id, batch, clip, self.classes[c], "removed")
                          for c in before[clip] if c not in labels]  # fmt: skip
            before[clip] = labels
        return sorted(found)


class World:
    """A project and its model, changed together."""

    def __init__(self, folder):
        (folder / "audio").mkdir()
        self.project, _ = create_project(folder, folder / "audio")
        self.store, self.model = self.project.store, Model()
        self.seen, self.rows, self.keys = {}, {}, []

    def append(self, events=(), verdicts=(), **values):
        key = f"k{len(self.keys)}"
        batch = Batch(key=key, events=events, verdicts=verdicts, **values)
        with self.store.write() as session:
            assert not session.append(batch).repeated
        self.keys.append(batch)

    def labels(self, number):
        """Some label set, of none to all classes."""
        return [c for c in range(len(self.model.classes)) if number >> c & 1]

    def clip(self, number):
        return number % len(self.model.paths)

    def do_import(self, numbers):
        model = self.model
        fresh = [f"New{len(model.classes)}"] if numbers[0] % 5 == 4 else []
        classes = (model.classes if not model.batches else []) + fresh
        model.classes += fresh
        clips = [
            Clip(path=f"{len(model.paths) + k}.wav", state=("unverified", "verified")[n % 2],
                 labels=tuple(model.classes[c] for c in self.labels(n // 2)))
            for k, n in enumerate(numbers)
        ]  # fmt: skip
        self.append(kind="import", actor="me", by_person=True, classes=classes, clips=clips,
                    facts={} if model.batches else {"labels": "several"})  # fmt: skip
        first = len(model.paths)
        model.paths += [clip.path for clip in clips]
        model.add(
            person=True, kind="import", actor="me", clips=True,
            events=[(first + k, c.state, self.labels(n // 2))
                    for k, (c, n) in enumerate(zip(clips, numbers, strict=True))],
            verdicts=[(first + k, label, "present") for k, n in enumerate(numbers) if n % 2
                      for label in self.labels(n // 2)],
        )  # fmt: skip

    def decide(self, wanted, *, person, kind, actor):
        """Events of ``clip: (state, labels)``, with the verdicts that go with them."""
        now = self.model.now()
        events = [LabelEvent(clip_id=clip, state=state, labels=labels, source=kind)
                  for clip, (state, labels) in wanted.items()]  # fmt: skip
        verdicts = [v for e in events for v in verdicts_of(e, kind, now[e.clip_id][1])]
        self.append(events, verdicts, kind=kind, actor=actor, by_person=person)
        self.model.add(
            person=person, kind=kind, actor=actor,
            events=[(clip, state, labels) for clip, (state, labels) in wanted.items()],
            verdicts=[told for clip, (state, labels) in wanted.items()
                      for told in self.told(clip, state, labels, now[clip][1])],
        )  # fmt: skip

    def told(self, clip, state, labels, before):
        """The verdicts an event stands for, in the order of the classes."""
        if state in TRUSTED:
            return [(clip, c, "present" if c in labels else "absent")
                    for c in sorted({*labels, *before})]  # fmt: skip
        return [(clip, c, "unsure") for c in labels] if state == "unverified" else []

    def do_machine(self, pairs):
        now = self.model.now()
        wanted = {
            clip: (MACHINE[n % 2], self.labels(n // 2) if n > 80 else now[clip][1])
            for clip, n in ((self.clip(a), n) for a, n in pairs)
            if now[clip][0] in MACHINE
        }
        if wanted:
            self.decide(wanted, person=False, kind="verify", actor="labelkit")

    def do_person(self, pairs):
        wanted = {self.clip(a): (HUMAN[n % 3], self.labels(n // 3) if n % 3 < 2 else [])
                  for a, n in pairs}  # fmt: skip
        self.decide(wanted, person=True, kind="edit", actor=("ann", "bob")[pairs[0][0] % 2])

    def do_correct(self, pairs):
        """The import of a file of corrections."""
        now, model = self.model.now(), self.model
        wanted = {self.clip(a): self.labels(n % 8) for a, n in pairs}
        said = {model.paths[clip]: ",".join(model.classes[c] for c in labels) or "remove"
                for clip, labels in wanted.items()}  # fmt: skip
        file = self.project.root / "c.json"
        file.write_text(json.dumps(said))
        import_labels(self.project, file, "corrections", FormatSpec())
        with self.store.read() as session:
            [(last, key, actor)] = session.rows(
                "select batch_id, batch_key, actor from batches order by batch_id desc limit 1"
            )
            changed = dict(session.rows(
                "select clip_id, state from label_events where batch_id = ?", [last]
            ))  # fmt: skip
        events = []
        for clip, labels in wanted.items():
            state = "relabeled" if labels else "rejected"
            if now[clip] != (state, labels):
                events.append((clip, state, labels))
        if not events:
            assert last == len(model.batches)
            return
        assert last == len(model.batches) + 1 and len(changed) == len(events)
        self.keys.append(Batch(key=key, kind="import", actor="x", by_person=True))
        model.add(
            person=True, kind="import", actor=actor, events=events,
            verdicts=[t for clip, state, labels in events
                      for t in self.told(clip, state, labels, now[clip][1])],
        )  # fmt: skip

    def do_say(self, pairs):
        """Verdicts alone, of a person, or of a machine that masks."""
        person = bool(pairs[0][1] % 2)
        values = {"kind": "review" if person else "missing", "by_person": person,
                  "actor": ("ann", "labelkit")[not person]}  # fmt: skip
        told = [(self.clip(a), n % len(self.model.classes), WORDS[n // 10 % 4] if person
                 else "unsure") for a, n in pairs]  # fmt: skip
        self.append(
            verdicts=[Verdict(clip_id=clip, class_id=c, verdict=word, rule="x")
                      for clip, c, word in told],
            **values,
        )  # fmt: skip
        self.model.add(person=person, kind=values["kind"], actor=values["actor"], verdicts=told)

    def do_attempt(self, pair):
        """A machine that decides for a person, or against one, among other things it may do."""
        a, n = pair
        now = self.model.now()
        against = [clip for clip, (state, _) in now.items() if state in HUMAN]
        clip, state = self.clip(a), HUMAN[n % 3]
        if against and n % 2:
            clip, state = against[a % len(against)], MACHINE[n // 2 % 2]
        fine = [LabelEvent(clip_id=c, state="unverified", labels=[], source="x")
                for c, (s, _) in now.items() if s in MACHINE and c != clip]  # fmt: skip
        event = LabelEvent(clip_id=clip, state=state, labels=[], source="x")
        batch = Batch(key="attempt", kind="verify", actor="labelkit", by_person=False,
                      events=[*fine, event])  # fmt: skip
        with (
            pytest.raises(StoreError, match=f"label event of clip {clip}: a machine may not"),
            self.store.write() as session,
        ):
            session.append(batch)

    def do_repeat(self, number):
        batch = self.keys[number % len(self.keys)]
        with self.store.write() as session:
            assert session.append(batch).repeated

    def do_undo(self, number):
        target = number % (len(self.model.batches) + 2)
        if target and any(batch["clips"] for batch in self.model.batches[target - 1 : target]):
            return  # Clips that go again: tests/integration/labels/test_sequences.py.
        plan = self.model.plan_undo(target)
        if plan is None:
            with pytest.raises(InvalidInput, match=f"^no batch {target}|^batch {target} "):
                undo(self.project, target)
            return
        tip, events, person = plan
        tried = undo(self.project, target, dry_run=True)
        assert self.read("select count(*) from batches") == [(len(self.model.batches),)]
        done = undo(self.project, target)
        assert replace(tried, batch=done.batch) == done
        assert (done.undoes, done.clips) == (tip, len(events))
        actor = self.read("select max_by(actor, batch_id) from batches")[0][0]
        self.model.add(person=person, kind="undo", actor=actor, events=events, undoes=tip)
        self.keys.append(Batch(key=f"undo:{tip}", kind="undo", actor="x", by_person=True))

    def read(self, sql):
        with self.store.read() as session:
            return session.rows(sql)

    def check(self):
        model, now = self.model, self.model.now()
        names = model.classes
        with self.store.read() as session:
            rows = session.rows
            events = rows("select batch_id, clip_id, state, labels from label_events "
                          "order by event_id")  # fmt: skip
            assert events == model.events
            assert model.verdicts == rows(
                "select batch_id, clip_id, class_id, verdict from label_verdicts "
                "order by verdict_id"
            )
            assert rows("select by_person, kind, actor, undoes from batches order by batch_id") == [
                (b["person"], b["kind"], b["actor"], b["undoes"]) for b in model.batches
            ]
            # Replaying the events equals the view, with the maintained state and without.
            replayed = [(clip, *now[clip]) for clip in sorted(now)]
            current = "select clip_id, state, labels from current_events order by clip_id"
            newest = ("select clip_id, max_by(state, event_id), max_by(labels, event_id) "
                      "from label_events group by clip_id order by clip_id")  # fmt: skip
            assert rows(current) == rows(newest) == replayed
            standing = rows("from labels_now order by clip_id")
            assert rows("select path, state, labels from labels_now order by clip_id") == [
                (model.paths[clip], state, [names[c] for c in labels])
                for clip, state, labels in replayed
            ]
            table = session.labels()
            assert table.labels == [labels for *_, labels in replayed]
            assert sorted(session.taken_back()) == [
                n for n in range(1, len(model.batches) + 1) if not model.stands(n)
            ]
            states = rows("select clip_id, class, given, verdict, by_person, actor, batch_id "
                          "from label_states order by all")  # fmt: skip
            assert sorted(states) == model.label_states()
            assert model.flips() == sorted(
                rows("select event_id, batch_id, clip_id, class, change from flips")
            )
            # Nothing that was written is gone or other than it was.
            for name, order in (("label_events", "event_id"), ("label_verdicts", "verdict_id"),
                                ("batches", "batch_id"), ("clips", "clip_id")):  # fmt: skip
                written = rows(f"from {name} order by {order}")
                old = self.rows.get(name, [])
                assert written[: len(old)] == old
                self.rows[name] = written
            # The newest two after each step, all of them in the end.
            for batch_id in [*self.seen][-2:]:
                assert self.seen[batch_id][0] == rows(
                    f"from labels_at({batch_id}) order by clip_id"
                )
            self.seen[len(model.batches)] = standing, states

    def check_past(self, batch_id):
        """The whole store as it was."""
        labels, states = self.seen[batch_id]
        with LabelStore(self.store.path, as_of=str(batch_id)).read() as session:
            assert session.rows("from labels_now order by clip_id") == labels
            assert states == session.rows(
                "select clip_id, class, given, verdict, by_person, actor, batch_id "
                "from label_states order by all"
            )
            assert session.last_batch() == batch_id
            assert len(session.rows("from label_events")) == sum(
                batch <= batch_id for batch, *_ in self.model.events
            )


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck),
    print_blob=True, database=None,
)  # fmt: skip
@given(
    clips=st.lists(NUMBER, min_size=3, max_size=5),
    steps=st.lists(STEP, min_size=4, max_size=14),
    tiny=st.booleans(),
    seed=NUMBER,
)
def test_any_history(clips, steps, tiny, seed):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if tiny:
            patch.setattr(materialised, "TAIL", 2)
            patch.setattr(materialised, "TAIL_SHARE", 0)
        world = World(Path(folder))
        rng = np.random.default_rng(seed)
        for name, numbers in [("import", clips), *steps]:
            before = len(world.model.batches)
            getattr(world, f"do_{name}")(numbers)
            world.check()
            if before:
                world.check_past(int(rng.integers(1, before + 1)))
        for batch_id, (labels, _) in world.seen.items():
            assert world.read(f"from labels_at({batch_id}) order by clip_id") == labels
        for batch_id in rng.permutation(list(world.seen))[:3]:
            world.check_past(int(batch_id))
        kept = world.read("select count(*) from clip_state")[0][0]
        assert bool(kept) == (tiny and len(world.model.events) > 2)
