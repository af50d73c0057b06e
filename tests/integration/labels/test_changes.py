"""Change sets: two copies of a project that part, and are brought together again."""

import json
from datetime import datetime, timedelta

import pytest

from labelkit.errors import InvalidInput
from labelkit.labels.changes.exporting import export_changes
from labelkit.labels.changes.importing import import_changes
from labelkit.labels.changes.merge import ClipState, RemoteEvent, merge_clip
from labelkit.labels.undo import undo
from labelkit.project import create_project
from labelkit.records import Batch, Clip
from tests.support.commands import call, refused, rows, snapshot
from tests.support.copies import (
    CLASSES,
    PATHS,
    add_clips,
    decide,
    labels_now,
    make_copies,
    replayed,
)
from tests.support.labelled import make_labelled
from tests.support.projects import copy_project


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """Only ever read."""
    return make_copies(tmp_path_factory.mktemp("parted"))


@pytest.fixture
def copies(parted, tmp_path):
    a, b = parted
    return copy_project(a, tmp_path / "a"), copy_project(b, tmp_path / "b")


def carry(source, target, *args):
    """Export from one copy, import into another; the rows of the report."""
    file = source.root / "set.json"
    done = call(source, "changes", "export", file, "--force", *args)
    assert done.exit_code == 0 and done.stdout == "", done.output
    return bring(target, file)


def bring(project, file, *args):
    done = call(project, "changes", "import", file, "--json", *args)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def told(row):
    return row["path"], row["what"], row["kept"], row["why"]


def agree(a, b, conflicts):
    left, right = labels_now(a), labels_now(b)
    assert left.keys() == right.keys()
    differ = {path for path in left if left[path] != right[path]}
    assert differ <= {row["path"] for row in conflicts if row["kept"] == "ours"}
    return differ


@pytest.mark.slow
def test_what_only_others_changed_arrives(copies):
    a, b = copies
    decide(a, {2: ["Car"], 3: ["Bird", "Car"]})
    decide(a, {4: ["Car"]}, state="self_verified", actor="bot", kind="verify")
    decide(a, {5: []}, state="rejected")
    add_clips(a, [("new.wav", "Cow", 1)])
    decide(a, {"new.wav": ["Dog"]}, actor="carol")
    assert carry(a, b) == []
    assert labels_now(b) == labels_now(a) == replayed(b)
    assert rows(b, "select name from classes order by class_id") == [
        (name,) for name in [*CLASSES, "Cow"]
    ]
    said = "select path, class, verdict, actor, rule from label_states order by all"
    assert rows(b, said) == rows(a, said)
    who = "select kind, actor, by_person, source, path from label_history order by event_id"
    assert rows(b, who) == rows(a, who)


@pytest.mark.slow
def test_twice_is_harmless_and_the_other_way_brings_nothing(copies):
    a, b = copies
    batch_id = decide(a, {2: ["Car"]})
    undo(a, batch_id)
    decide(a, {2: ["Bird"], 3: ["Dog"]})
    decide(b, {7: ["Dog"]}, actor="bob")
    carry(a, b)
    before = snapshot(b)
    assert carry(a, b) == [] and snapshot(b) == before
    carry(b, a)
    before = snapshot(a)
    assert carry(b, a) == [] and snapshot(a) == before
    assert carry(a, b) == [] and labels_now(a) == labels_now(b)
    assert len(rows(a, "from batches")) == len(rows(b, "from batches")) == 5


@pytest.mark.slow
def test_a_set_travels_through_a_third_copy(copies, tmp_path):
    a, b = copies
    c = copy_project(b, tmp_path / "c")
    decide(a, {2: ["Car"]})
    undo(a, 2)
    decide(a, {3: ["Bird"]})
    for source, target in ((a, b), (b, c), (a, c), (c, a), (c, b)):
        assert carry(source, target) == []
    assert labels_now(a) == labels_now(b) == labels_now(c)
    assert {len(rows(p, "from batches")) for p in copies} == {4} == {len(rows(c, "from batches"))}
    # The first origin stays, whoever passes it on.
    first, last = (json.loads((p.root / "set.json").read_text()) for p in (a, c))
    assert [x["origin"] for x in first["batches"]] == [x["origin"] for x in last["batches"]]
    assert [x["reason"] for x in first["batches"]] == [x["reason"] for x in last["batches"]]
    reason = rows(c, "select reason from batches where batch_id = 2")[0][0]
    assert reason.startswith('as heard; changes of {"key": "corrections:1"')


@pytest.mark.slow
def test_the_same_key_is_another_batch_where_copies_parted(copies):
    a, b = copies
    for project, labels in ((a, ["Car"]), (b, ["Bird"])):
        decide(project, {2: labels}, actor=labels[0])
        undo(project, 2)
        decide(project, {3 if project is a else 4: labels}, actor=labels[0])
    keys = "select batch_key from batches"
    assert rows(a, keys) == rows(b, keys)
    assert carry(a, b) == []
    assert len(rows(b, keys)) == 7
    assert labels_now(b) == labels_now(a) | {PATHS[4]: ("relabeled", ["Bird"])}


@pytest.mark.slow
def test_two_people_differ(copies):
    a, b = copies
    decide(a, {2: ["Car", "Dog"], 3: ["Car"]}, actor="alice")
    decide(b, {2: ["Car"], 3: ["Car"]}, actor="bob")
    [row] = found = carry(a, b)
    assert told(row) == ("2.wav", "labels", "ours", "two people differ; what is here stays")
    assert row["ours"].startswith("relabeled Car (bob, 20")
    assert row["theirs"].startswith("relabeled Car, Dog (alice, 20")
    assert labels_now(b)["2.wav"] == ("relabeled", ["Car"])
    assert carry(b, a)[0]["path"] == "2.wav"
    assert labels_now(a)["2.wav"] == ("relabeled", ["Car", "Dog"])
    assert agree(a, b, found) == {"2.wav"}
    for project in (a, b):
        differ = "select path, class, present, absent from disagreements"
        assert rows(project, differ) == [("2.wav", "Dog", ["alice"], ["bob"])]
        # Of the clip on which they agree both words are there.
        both = "select actor from label_verdicts join batches using (batch_id) where clip_id = 3"
        assert {actor for (actor,) in rows(project, both)} == {"alice", "bob"}


@pytest.mark.slow
@pytest.mark.parametrize("person_first", [True, False])
def test_a_person_beats_a_machine(copies, person_first):
    a, b = copies
    decide(a, {2: ["Car"]}, state="self_verified", actor="bot", kind="verify")
    decide(b, {2: ["Bird"]})
    source, target = (b, a) if person_first else (a, b)
    kept = "theirs" if person_first else "ours"
    expected = ("2.wav", "labels", kept, "a person decides, not a machine")
    assert list(map(told, carry(source, target))) == [expected]
    carry(target, source)
    assert labels_now(a) == labels_now(b)
    assert labels_now(a)["2.wav"] == ("relabeled", ["Bird"])
    # A machine's word goes with its event, and stays where it was said.
    bots = "select count(*) from label_verdicts join batches using (batch_id) where actor = 'bot'"
    assert rows(a, bots) == [(2,)] and rows(b, bots) == [(0,)]


@pytest.mark.slow
def test_two_machines_differ(copies):
    a, b = copies
    decide(a, {2: ["Car"]}, state="self_verified", actor="bot", kind="verify")
    decide(b, {2: ["Dog"]}, state="self_verified", actor="bot", kind="verify")
    assert [told(row)[2:] for row in carry(a, b)] == [
        ("ours", "two machines differ; what is here stays")
    ]
    assert labels_now(b)["2.wav"] == ("self_verified", ["Dog"])


@pytest.mark.slow
def test_an_older_word_of_the_same_person_is_not_the_newest(copies):
    a, b = copies
    decide(a, {2: ["Car", "Dog"]})
    decide(b, {2: ["Car"]})
    carry(a, b)
    said = "select verdict from label_states where path = '2.wav' and class = 'Dog'"
    assert rows(b, said) == [("absent",)]
    carry(b, a)
    assert rows(a, said) == [("absent",)]
    assert rows(a, "from disagreements") == []


@pytest.mark.slow
def test_who_decided_the_same_again_is_asked(copies):
    """Labels that came back to what they were are a decision, unless they were taken back."""
    a, b = copies
    for names in (["Car"], ["Dog"]):
        decide(b, {2: names, 3: names, 4: names}, actor="bob")
    undo(b, decide(b, {5: ["Dog"]}, actor="bob"))
    decide(a, {2: ["Bird"], 5: ["Bird"]})
    decide(a, {3: ["Bird"]}, state="self_verified", kind="verify", actor="bot")
    assert [(row["path"], row["kept"]) for row in carry(a, b)] == [
        ("2.wav", "ours"), ("3.wav", "ours"),
    ]  # fmt: skip
    assert labels_now(b)["5.wav"] == ("relabeled", ["Bird"])
    assert agree(a, b, carry(b, a)) == {"2.wav"}


@pytest.mark.slow
def test_who_knew_of_a_decision_may_change_it(copies):
    a, b = copies
    decide(a, {2: ["Car"], 3: ["Car"]}, actor="alice")
    decide(b, {2: ["Car"], 3: ["Car"]}, actor="bob")
    carry(a, b)
    decide(a, {2: ["Bird"]}, actor="alice")
    carry(b, a)
    decide(a, {3: ["Bird"]}, actor="alice")
    assert [(row["path"], row["kept"]) for row in carry(a, b)] == [("2.wav", "ours")]
    assert labels_now(b)["3.wav"] == ("relabeled", ["Bird"])


@pytest.mark.slow
def test_undo_travels_and_takes_back_words(copies):
    a, b = copies
    common = decide(a, {2: ["Car"], 3: ["Car"]})
    carry(a, b)
    back = undo(a, common).batch
    decide(b, {3: ["Bird"]}, actor="bob")
    [row] = carry(a, b)
    assert row["path"] == "3.wav"
    assert labels_now(b)["2.wav"] == ("unverified", ["Dog"])
    assert labels_now(b)["3.wav"] == ("relabeled", ["Bird"])
    assert rows(b, "from taken_back") == [(common,)]
    # And the undo itself is taken back.
    undo(a, back)
    carry(a, b)
    assert rows(b, "from taken_back where batch_id = 2") == []
    assert labels_now(b)["2.wav"] == ("relabeled", ["Car"])
    agree(a, b, [row])


@pytest.mark.slow
def test_no_batch_is_taken_back_twice(copies):
    a, b = copies
    common = decide(a, {2: ["Car"]})
    carry(a, b)
    undo(a, common)
    own = undo(b, common).batch
    assert carry(a, b) == []
    assert rows(b, "from taken_back") == [(common,)]
    undo(b, own)
    assert rows(b, "select batch_id from taken_back where batch_id = 2") == []
    # What was brought back here is taken back once more by those who did so before.
    other = decide(a, {4: ["Dog"]})
    carry(a, b)
    here = rows(b, "select max(batch_id) from batches")[0][0]
    undo(b, undo(b, here).batch)
    undo(a, other)
    carry(a, b)
    assert (here,) in rows(b, "from taken_back")
    assert labels_now(b)["4.wav"] == labels_now(a)["4.wav"] == ("unverified", ["Car"])


@pytest.mark.slow
def test_an_undo_here_of_what_came_in(copies):
    a, b = copies
    decide(a, {2: ["Car"], 3: ["Car"]})
    before = labels_now(b)
    carry(a, b)
    undo(b, 2)
    assert labels_now(b) == before
    carry(b, a)
    assert labels_now(a) == before


RENAMED = {
    "renamed": (["rename Car Vehicle"], {"Car": "Vehicle"}),
    "merged": (["merge Car Dog"], {"Car": "Dog"}),
    "twice": (["rename Car Wagon", "rename Wagon Vehicle"], {"Car": "Vehicle"}),
}


@pytest.mark.parametrize(("changes", "names"), RENAMED.values(), ids=RENAMED)
@pytest.mark.parametrize("dry_run", [False, True])
def test_former_names_mean_the_classes_of_today(copies, changes, names, dry_run):
    a, b = copies
    for project in copies:
        assert call(project, "labels", "several").exit_code == 0
    for change in changes:
        assert call(b, "classes", *change.split()).exit_code == 0
    before, classes = labels_now(b), rows(b, "select name from classes order by class_id")
    decide(a, {2: ["Car"], 3: ["Dog", "Car"], 4: ["Bird"]})
    add_clips(a, [("new.wav", "Car", 1)])
    file = a.root / "set.json"
    assert call(a, "changes", "export", file).exit_code == 0
    done = call(b, "changes", "import", file, *(["--dry-run"] if dry_run else []))
    [(old, new)] = names.items()
    assert f"1 class is called otherwise now: {old!r} is {new!r}" in done.stderr
    assert rows(b, "select name from classes order by class_id") == classes
    if dry_run:
        assert labels_now(b) == before
        return
    here, there = labels_now(b), labels_now(a)
    for path in (PATHS[2], PATHS[3], PATHS[4], "new.wav"):
        state, labels = there[path]
        assert here[path] == (state, sorted({names.get(name, name) for name in labels})), path
    once = snapshot(b)
    assert call(b, "changes", "import", file).exit_code == 0
    assert snapshot(b) == once


def append_clips(project, *clips, key="more"):
    with project.store.write() as session:
        session.append(Batch(key=key, kind="import", actor="x", by_person=True, clips=clips))


@pytest.mark.slow
def test_clips_are_known_by_path_and_then_by_recording(tmp_path):
    """Two projects of their own on the same recordings."""
    a, b = (tmp_path / name for name in "ab")
    for root in (a, b):
        (root / "audio").mkdir(parents=True)
    (a, _), (b, _) = (create_project(root, root / "audio") for root in (a, b))
    for project, prefix in ((a, ""), (b, "moved/")):
        with project.store.write() as session:
            batch = Batch(key="c", kind="import", actor="x", by_person=True, classes=CLASSES)
            session.append(batch)
        append_clips(project, Clip(path="same.wav", labels=("Dog",), content_hash="1" * 32),
                     Clip(path=f"{prefix}one.wav", labels=("Dog",), content_hash="2" * 32),
                     Clip(path=f"{prefix}twin1.wav", labels=("Dog",), content_hash="3" * 32),
                     Clip(path=f"{prefix}twin2.wav", labels=("Dog",), content_hash="3" * 32),
                     )  # fmt: skip
    append_clips(a, Clip(path="x.wav", labels=("Dog",), content_hash="4" * 32), key="x")
    append_clips(b, Clip(path="x.wav", labels=("Dog",), content_hash="5" * 32), key="x")
    for path in ("same.wav", "one.wav", "twin1.wav", "x.wav"):
        decide(a, {path: ["Car"]})
    assert [(row["path"], row["what"], row["ours"], row["theirs"]) for row in carry(a, b)] == [
        ("x.wav", "recording", "5" * 32, "4" * 32)
    ]
    assert labels_now(b) == {
        "same.wav": ("relabeled", ["Car"]), "moved/one.wav": ("relabeled", ["Car"]),
        "moved/twin1.wav": ("unverified", ["Dog"]), "moved/twin2.wav": ("unverified", ["Dog"]),
        "twin1.wav": ("relabeled", ["Car"]), "twin2.wav": ("unverified", ["Dog"]),
        "x.wav": ("unverified", ["Dog"]),
    }  # fmt: skip


@pytest.mark.slow
def test_clips_that_are_nowhere_or_do_not_fit(copies):
    a, b = copies
    for project, subset, content in ((a, "test", "9" * 32), (b, "train", "8" * 32)):
        clip = Clip(path=f"{subset}.wav", group="g", subset=subset, content_hash=content)
        append_clips(project, clip)
    last = rows(a, "select max(batch_id) from batches")[0][0]
    [row] = carry(a, b)
    assert row["path"] == "test.wav" and row["what"] == "clip" and row["ours"] is None
    assert "of the same group in subset train; put them in one subset" in row["why"]
    decide(a, {"test.wav": ["Dog"], 2: ["Car"]})
    assert [told(row) for row in carry(a, b, "--since", last)] == [
        ("test.wav", "clip", "ours", "no such clip here")
    ]
    assert "test.wav" not in labels_now(b) and labels_now(b)["2.wav"] == ("relabeled", ["Car"])


@pytest.mark.slow
def test_since_and_people(copies):
    a, b = copies
    decide(a, {2: ["Car"]})
    decide(a, {3: ["Car"], 4: ["Dog"]}, state="self_verified", actor="bot", kind="verify")
    decide(a, {4: ["Bird"]})
    assert [row["kept"] for row in carry(a, b, "--people")] == ["theirs"]
    changed = {path for path in labels_now(a) if labels_now(a)[path] != labels_now(b)[path]}
    assert changed == {"3.wav"}
    decide(b, {5: ["Car"]})
    file = a.root / "later.json"
    assert call(b, "changes", "export", file, "--since", 3).exit_code == 0
    found = json.loads(file.read_text())
    assert [[e["path"] for e in part["events"]] for part in found["batches"]] == [["5.wav"]]
    [(since,)] = rows(b, "select made_at from batches where batch_id = 3")
    assert found["since"] == since.isoformat()
    refused(call(b, "changes", "export", file, "--force", "--since", "noon"), "no moment 'noon'")
    refused(call(b, "changes", "export", file), "is there already")


@pytest.mark.slow
def test_people_who_take_a_word_back_vouch_for_no_machine(copies):
    """A machine, a person, and the undo of the person: the last word there is the machine's."""
    a, b = copies
    add_clips(a, [("new.wav", "Dog", 0)])
    clips = {2: ["Car"], 3: ["Car"], "new.wav": ["Car"]}
    decide(a, clips, state="self_verified", actor="bot", kind="verify")
    undo(a, decide(a, {clip: ["Bird"] for clip in clips}))
    assert labels_now(a)["new.wav"] == ("self_verified", ["Car"])
    decide(b, {3: ["Bird"]}, state="self_verified", actor="bot", kind="verify")
    before = labels_now(b)
    assert [row["kept"] for row in carry(a, b, "--people") if row["path"] == "3.wav"] == ["ours"]
    assert labels_now(b) == before | {"new.wav": ("unverified", ["Dog"])}
    # The whole set brings it, and the undo goes where the person's word came in.
    decide(a, {4: ["Car"]}, state="self_verified", actor="bot", kind="verify")
    own = decide(a, {4: ["Bird"]})
    carry(a, b, "--people")
    assert labels_now(b)["4.wav"] == ("relabeled", ["Bird"])
    undo(a, own)
    carry(a, b, "--people")
    assert labels_now(b)["4.wav"] == before["4.wav"]


@pytest.mark.slow
def test_a_forged_undo_of_what_is_here(copies):
    """The batch it takes back is not in the set, so only the store can tell."""
    a, b = copies
    machine = decide(a, {2: ["Car"]}, state="self_verified", actor="bot", kind="verify")
    carry(a, b)
    undo(a, machine)
    file = a.root / "since.json"
    call(a, "changes", "export", file, "--since", machine)
    found = json.loads(file.read_text())
    found["batches"][0]["by_person"] = True
    file.write_text(json.dumps(found))
    before = snapshot(b)
    refused(call(b, "changes", "import", file), "says that a person takes back batch 2")
    assert snapshot(b) == before


@pytest.mark.slow
def test_a_dry_run_says_the_same_and_writes_nothing(copies):
    a, b = copies
    add_clips(a, [("new.wav", "Cow", 1)])
    decide(a, {2: ["Car"], 3: ["Cow"]})
    decide(b, {2: ["Bird"]}, actor="bob")
    file = a.root / "set.json"
    call(a, "changes", "export", file)
    before = snapshot(b)
    dry = call(b, "changes", "import", file, "--dry-run", "--json")
    assert snapshot(b) == before and "nothing, dry run" in dry.stderr
    wet = call(b, "changes", "import", file, "--json")
    assert (wet.exit_code, wet.stdout) == (0, dry.stdout)
    assert wet.stderr.splitlines() == dry.stderr.splitlines()[:-1]
    assert "0 clips added, 1 events applied, 1 kept out, 4 verdicts" in wet.stderr
    assert snapshot(b) != before


@pytest.mark.slow
def test_the_file_is_the_same_each_time_and_says_what_was_before(copies):
    a, _ = copies
    decide(a, {2: ["Dog", "Bird"]}, state="self_verified", actor="bot", kind="verify")
    file = a.root / "set.json"
    call(a, "changes", "export", file)
    text = file.read_text()
    call(a, "changes", "export", file, "--force")
    assert file.read_text() == text
    found = json.loads(text)
    assert (found["labelkit_changes"], found["classes"]) == (1, CLASSES)
    first, second = found["batches"]
    assert [clip["path"] for clip in first["clips"]] == PATHS
    [event] = second["events"]
    assert event["before"].pop("batch")
    assert event | {"content_hash": None} == {
        "path": "2.wav", "content_hash": None, "before": {"state": "unverified", "labels": ["Dog"]},
        "state": "self_verified", "labels": ["Bird", "Dog"], "source": "verify", "score": None,
        "iteration": None, "evidence": None,
    }  # fmt: skip
    assert second["verdicts"][0] == {
        "path": "2.wav", "content_hash": None, "class": "Bird", "verdict": "present",
        "rule": "verify", "score": None, "start_s": None, "end_s": None,
    }  # fmt: skip
    # A line an event, for those who read it.
    assert sum('"2.wav"' in line for line in text.splitlines()) == 4


@pytest.mark.slow
def test_evidence_says_when_and_where(copies):
    a, b = copies
    batch_id = decide(a, {2: ["Car"]})
    carry(a, b)
    made_at = rows(a, "select made_at from batches where batch_id = ?", [batch_id])[0][0]
    told = "select evidence from label_history where path = '2.wav' and batch_id > 1"
    [(evidence,)] = rows(b, told)
    assert json.loads(evidence) == {
        "answered_at": made_at.isoformat(),
        "origin": {"key": "corrections:1", "made_at": made_at.isoformat(),
                   "store_id": rows(a, "select store_id from store_info")[0][0]},
    }  # fmt: skip


WHEN = datetime(2026, 1, 1)


def word(labels, person=False, state=None, **values):
    state = state or ("relabeled" if person else "self_verified")
    return ClipState(state=state, labels=tuple(labels), by_person=person, actor="x", batch="",
                     made_at=WHEN + timedelta(hours=1), **values)  # fmt: skip


def step(before, after, knew=True):
    return RemoteEvent(before=before.content, after=after, knew=knew)


X, Y, Z = (word(labels) for labels in "XYZ")
PX, PY, PZ = (word(labels, True) for labels in "XYZ")
UX = word("X", True, "self_verified", undo=True)


@pytest.mark.parametrize(
    ("ours", "steps", "outcome", "first"),
    [
        (X, [step(X, Y)], "applied", 0),
        (X, [step(X, Y), step(Y, X)], "applied", 0),
        (Y, [step(X, Y)], "same", 1),
        # Their chain came by what is here.
        (Y, [step(X, Y), step(Y, Z)], "applied", 1),
        (PY, [step(X, PY), step(PY, PZ)], "applied", 1),
        (PY, [step(X, PY), step(PY, PZ, knew=False)], "kept", 2),
        # In the end nothing changed there.
        (Z, [step(X, Y), step(Y, X)], "same", 2),
        (PZ, [step(X, PY), step(PY, word("X", undo=True))], "same", 2),
        # A machine's steps before the person's are left out.
        (Z, [step(X, Y), step(Y, PX)], "applied", 1),
        (Z, [step(X, PY)], "applied", 0),
        (PZ, [step(X, Y)], "kept", 1),
        (Z, [step(X, Y)], "kept", 1),
        (PZ, [step(X, PY)], "kept", 1),
        # Who takes a word back stands behind no machine's: over labels as they came in, too.
        (word("Z", state="unverified"), [step(Y, X), step(X, PY), step(PY, UX)], "kept", 3),
        (Z, [step(Y, X), step(X, PY), step(PY, UX)], "kept", 3),
        (PZ, [step(X, PY), step(PY, word("X", True, undo=True))], "kept", 2),
    ],
)  # fmt: skip
def test_merging_one_clip(ours, steps, outcome, first):
    found = merge_clip(ours, steps)
    assert (found.outcome, found.first) == (outcome, first)


def test_a_machine_is_not_led_on_over_a_person():
    """A file may say that a machine saw what a person left."""
    forged = step(PX, Y)
    assert merge_clip(PX, [forged]).outcome == "kept"
    assert merge_clip(X, [step(X, PY), step(PY, Z)]).outcome == "kept"


@pytest.mark.slow
def test_a_failure_half_way_leaves_nothing(copies, monkeypatch):
    from labelkit.stores.append import WriteSession

    a, b = copies
    for k in (2, 3, 4):
        decide(a, {k: ["Car"]})
    file = a.root / "set.json"
    call(a, "changes", "export", file)
    before = snapshot(b)
    append, done = WriteSession.append, []

    def fail(self, batch):
        done.append(batch)
        if len(done) == 3:
            raise KeyboardInterrupt
        return append(self, batch)

    monkeypatch.setattr(WriteSession, "append", fail)
    with pytest.raises(KeyboardInterrupt):
        import_changes(b, file)
    assert len(done) == 3 and snapshot(b) == before


def test_the_set_of_another_data_set_is_refused(tmp_path):
    ours, theirs = (make_labelled(tmp_path / name) for name in ("ours", "theirs"))
    for project, name in ((ours, "a"), (theirs, "b")):
        with project.store.write() as session:
            session.rows("update clip_rows set path = ? || path", [f"{name}/"])
    file = tmp_path / "set.json"
    export_changes(theirs, file)
    before = rows(ours, "select count(*) from clips")
    with pytest.raises(InvalidInput, match="is of another data set: none of its"):
        import_changes(ours, file)
    assert rows(ours, "select count(*) from clips") == before
