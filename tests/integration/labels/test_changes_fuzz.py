"""Change sets under fire: random histories of two copies, and files that are no such thing."""

import copy
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelkit.errors import FaultyFile, InvalidInput
from labelkit.labels.changes.change_set import format_changes
from labelkit.labels.changes.exporting import collect_changes
from labelkit.labels.changes.importing import plan_import
from labelkit.labels.changes.origins import read_origins
from labelkit.labels.changes.reading import parse_changes
from labelkit.labels.undo import undo
from labelkit.maintenance.integrity import PROBLEM, check_contents
from labelkit.records import Batch, Clip
from labelkit.states import STATES
from tests.support.commands import call, refused, rows, snapshot
from tests.support.copies import CLASSES, decide, labels_now, make_copies, replayed
from tests.support.projects import copy_project


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """Only ever read."""
    return make_copies(tmp_path_factory.mktemp("parted"))


CLIPS = 4
NAMES = st.sets(st.sampled_from(CLASSES), max_size=2).map(sorted)
ACTS = st.one_of(
    st.tuples(st.sampled_from(["relabeled", "verified", "rejected", "self_verified", "unverified"]),
              st.dictionaries(st.integers(0, CLIPS - 1), NAMES, min_size=1, max_size=2),
              st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("undo"), st.integers(0, 5), st.none()),
    st.tuples(st.just("new"), st.integers(0, 2), NAMES),
    st.tuples(st.just("carry"), st.none(), st.none()),
)  # fmt: skip


def act(project, what, clips, more):
    """One random thing that somebody does."""
    if what == "undo":
        # That an import was taken back stays where it was done.
        found = rows(project, "select batch_id from batches where kind <> 'import' order by 1 desc")
        try:
            if found:
                undo(project, found[clips % len(found)][0])
        except InvalidInput:
            pass  # Taken back already, or nothing to take back.
    elif what == "new":
        with project.store.write() as session:
            known = f"new{clips}.wav" in session.labels().paths
            new = "Cow" not in session.classes()
            if not known:
                clip = Clip(path=f"new{clips}.wav", labels=tuple(more))
                session.append(Batch(key=f"new{clips}", kind="import", actor="root", clips=[clip],
                                     by_person=True, classes=["Cow"] if new else []))  # fmt: skip
    else:
        machine = what in ("self_verified", "unverified")
        states = {path: state for path, (state, _) in labels_now(project).items()}
        open_to = ("unverified", "self_verified") if machine else STATES
        free = {k: [] if what == "rejected" else names for k, names in clips.items()
                if states[f"{k}.wav"] in open_to}  # fmt: skip
        if free:
            decide(project, free, actor="bot" if machine else more, state=what,
                   kind="verify" if machine else "corrections")  # fmt: skip


EVENTS = (
    "select c.path, e.event_id, e.batch_id, e.state, e.labels, b.by_person, b.undoes is not null, "
    "e.batch_id = c.batch_id from label_events e join clips c using (clip_id) "
    "join batches b on b.batch_id = e.batch_id order by event_id"
)


def carry(source, target, clashed):
    """Carry over by way of the text, and check all that an import promises."""
    with source.store.read() as session:
        changes = collect_changes(session)
        known = {origin.id for origin, _ in read_origins(session).values()}
    text = format_changes(changes)
    assert parse_changes(text.encode(), "x") == changes
    before, history = labels_now(target), rows(target, EVENTS)
    with target.store.read() as session:
        own = {batch_id for batch_id, (origin, _) in read_origins(session).items()
               if origin.id not in known}  # fmt: skip
    with target.store.write() as session:
        plan = plan_import(session, changes)
        for batch in plan.batches:
            assert not session.append(batch).repeated
    after, theirs = labels_now(target), labels_now(source)
    clashed |= {row["path"] for row in plan.rows if row["kept"] == "ours"}
    # What people decided here, and others did not know of, is as it was.
    last = {row[0]: row for row in history}
    for path, _, batch_id, _, _, by_person, is_undo, intake in last.values():
        if batch_id in own and by_person and not is_undo and not intake:
            assert after[path] == before[path]
    # What nobody here touched since is what it is there.
    touched = {row[0] for row in history if row[2] in own}
    for path in theirs.keys() - touched - clashed:
        assert after[path] == theirs[path]
    assert before.keys() | theirs.keys() == after.keys()
    assert rows(target, EVENTS)[: len(history)] == history
    assert replayed(target) == after
    with target.store.read() as session:
        again = plan_import(session, changes)
    assert again.batches == [] and again.rows == []


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(st.tuples(st.booleans(), ACTS), min_size=2, max_size=8))
def test_two_random_histories_are_brought_together(parted, acts):
    with tempfile.TemporaryDirectory() as folder:
        copies = [copy_project(p, Path(folder) / n) for p, n in zip(parted, "ab", strict=True)]
        clashed = set()
        for second, (what, clips, more) in acts:
            if what == "carry":
                carry(copies[not second], copies[second], clashed)
            else:
                act(copies[second], what, clips, more)
        carry(copies[0], copies[1], clashed)
        carry(copies[1], copies[0], clashed)
        left, right = map(labels_now, copies)
        assert left.keys() == right.keys()
        assert {path for path in left if left[path] != right[path]} <= clashed
        # Nothing is left to say.
        with copies[1].store.read() as session:
            assert {o.id for o, _ in read_origins(session).values()} >= {
                part.origin.id for part in _changes(copies[0]).batches
            }


def _changes(project):
    with project.store.read() as session:
        return collect_changes(session)


@pytest.fixture(scope="module")
def valid(parted, tmp_path_factory):
    """A set with something of everything, and a copy that it fits."""
    folder = tmp_path_factory.mktemp("valid")
    a, b = (copy_project(p, folder / n) for p, n in zip(parted, "ab", strict=True))
    act(a, "new", 0, ["Car"])
    decide(a, {2: ["Car"], "new0.wav": ["Cow", "Dog"]})
    decide(a, {3: ["Car"]}, state="self_verified", actor="bot", kind="verify")
    undo(a, 3)
    return json.loads(format_changes(_changes(a))), b


def places(value, way=()):
    """Every place within a JSON value."""
    yield way
    parts = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else parts:
        yield from places(part, (*way, key))


def values(value):
    """Everything within a JSON value: what stands elsewhere is more like it than chance."""
    yield value
    parts = value.values() if isinstance(value, dict) else ()
    for part in value if isinstance(value, list) else parts:
        yield from values(part)


def change(data, way, made):
    """A copy with something else in one place."""
    if not way:
        return made
    data = copy.deepcopy(data)
    inner = data
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = made
    return data


def check_import(project, content):
    """A clear error and nothing written, or a right import; never anything else."""
    try:
        changes = parse_changes(content, "x.json")
    except FaultyFile as error:
        assert error.faults and all("\n" not in fault for fault in error.faults)
        return False
    before = labels_now(project)
    with project.store.read() as session:
        try:
            plan = plan_import(session, changes)
        except InvalidInput as error:
            assert "\n" not in str(error)
            return False
    with pytest.raises(_Enough), project.store.write() as session:
        for batch in plan.batches:
            session.append(batch)
        with_names = session.rows("select path, labels, state from labels_now")
        assert len(with_names) >= len(before)
        session.rows("select json(evidence), json_extract_string(evidence, '$.answered_at')::"
                     "timestamp, json_extract_string(evidence, '$.task')::bigint "
                     "from label_events")  # fmt: skip
        session.unsure(), session.decided()
        wrong = [found for found in check_contents(session._con) if found.state == PROBLEM]
        assert wrong == []
        raise _Enough
    assert labels_now(project) == before
    return True


class _Enough(Exception):
    """Ends a transaction, so that the next example finds the same store."""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["verified", "present", "Dog", "../x", "2026-01-01T00:00:00", "\ud800",
                       "0.wav", 2**63, 10**400, -1, float("nan"), float("inf"), 1e308]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4) | st.sampled_from(["answered_at", "task", "path"]),
                      inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.slow
def test_the_valid_file_is_right(valid):
    found, project = valid
    assert check_import(project, format_found(found))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_valid_file_with_something_else_somewhere(valid, data):
    found, project = valid
    for _ in range(data.draw(st.integers(1, 2))):
        way = data.draw(st.sampled_from(sorted(places(found), key=str)))
        found = change(found, way, data.draw(JSON | st.sampled_from(list(values(found)))))
    check_import(project, json.dumps(found).encode())


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_valid_file_with_other_bytes(valid, data):
    found, project = valid
    content = bytearray(format_found(found))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        end = at + data.draw(st.integers(0, 20))
        content[at:end] = data.draw(st.binary(max_size=6))
    check_import(project, bytes(content))


def format_found(found):
    return json.dumps(found, indent=1).encode()


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300) | JSON.map(lambda v: json.dumps(v).encode()))
def test_rubbish_is_refused(content):
    with pytest.raises(FaultyFile):
        parse_changes(content, "x")


def spoilt(found, *way, made):
    return json.dumps(change(found, way, made)).encode()


def test_every_fault_is_told_in_a_line(valid):
    found, _ = valid
    events = ("batches", 2, "events", 0)
    for way, made, fault in [
        (("labelkit_changes",), 2, "of version 2, this labelkit reads 1; export it again"),
        (("labelkit_changes",), True, "no change set; make one with"),
        (("batches",), {}, "file.batches is {}; it must be a list"),
        (("batches", 1), None, "batches[1] is None; give an object"),
        (("batches", 1), found["batches"][2], "batches[2]: batch 'corrections:2' is there twice"),
        ((*events, "state"), "wrong", "batches[2].events[0].state is 'wrong'; it must be of unver"),
        ((*events, "score"), 10**400, "batches[2].events[0].score is 1000"),
        ((*events, "score"), float("nan"), "number NaN; numbers must be finite"),
        ((*events, "before"), [], "batches[2].events[0].before is []; give an object"),
        ((*events, "labels"), ["Emu"], "class 'Emu' is not among the classes of the file"),
        ((*events, "labels"), ["Dog", "Dog"], "it must be a list, each entry a name"),
        ((*events, "labels"), [["Dog"]], "it must be a list, each entry a name"),
        ((*events, "path"), "../x.wav", "it must be a path below the audio folder"),
        ((*events, "path"), "x\ny", "it must be a path below the audio folder"),
        ((*events, "evidence"), {"task": "x"}, "it must be null or an object; its answered_at"),
        ((*events, "evidence"), {"answered_at": "now"}, "it must be null or an object"),
        ((*events, "source"), "\ud800", "text '\\ud800' holds half a character"),
        ((*events, "more"), 1, "batches[2].events[0] has 'more', which nothing reads; remove it"),
        ((*events, "content_hash"), "0" * 32, "clip '2.wav' has another content_hash than before"),
        (("batches", 2, "by_person"), 1, "by_person is 1; it must be true or false"),
        (("batches", 2, "by_person"), False, "a machine makes a clip relabeled that was unverif"),
        (("batches", 2, "origin", "made_at"), "2026-01-01T00:00:00Z", "it must be a time in UTC"),
        (("batches", 2, "verdicts", 0, "start_s"), 1, "is of seconds 1 to None; give both"),
        (("batches", 2, "verdicts", 0, "verdict"), "maybe", "it must be of present, absent, unsu"),
        (("batches", 1, "clips", 0, "path"), "2.wav", "clip '2.wav' comes in, but was named befo"),
        (("batches", 3, "clips"), [found["batches"][1]["clips"][0] | {"path": "n", "state":
            "verified"}], "batches[3].clips[0]: a machine brings a clip in as verified; it may"),
        (("batches", 4, "undoes"), found["batches"][3]["origin"],
            "batches[4]: by_person is True, of the batch it takes back it is not; give the same"),
        (("classes",), ["Dog", "remove"], "each entry a name in printable text, and not remove"),
        ((*events, "content_hash"), "x" * 32, "it must be null or 32 hex digits"),
        (("shared_recordings",), ["x"], "it must be a list, each entry 32 hex digits"),
        (("batches", 1, "clips", 0, "duration_s"), -0.5, "it must be null or seconds, not below"),
        (("batches", 1, "clips", 0, "fold"), 10_000, "it must be null or a whole number up to"),
        (("batches", 1, "clips", 0, "fold"), -1, "it must be null or a whole number up to 9999"),
    ]:  # fmt: skip
        with pytest.raises(FaultyFile) as refusal:
            parse_changes(spoilt(found, *way, made=made), "x")
        assert any(fault in line for line in refusal.value.faults), refusal.value.faults
    both = change(found, (*events, "state"), "wrong")
    both = change(both, ("batches", 3, "events", 0, "iteration"), 1.5)
    with pytest.raises(FaultyFile) as refusal:
        parse_changes(json.dumps(both).encode(), "x")
    assert len(refusal.value.faults) == 2


@pytest.mark.slow
def test_a_machine_that_decides_for_a_person_gets_nowhere(valid):
    """Where a file tells of a clip that comes in verified, and of a machine that saw it not."""
    found, project = valid
    event = dict(found["batches"][3]["events"][0], path="new0.wav", content_hash=None)
    found = change(found, ("batches", 2), found["batches"][3])
    found = change(found, ("batches", 2, "events"), [event])
    found["batches"] = found["batches"][:3]
    found = change(found, ("batches", 1, "clips", 0, "state"), "verified")
    assert check_import(project, format_found(found))
    with project.store.read() as session:
        plan = plan_import(session, parse_changes(format_found(found), "x"))
    assert ("new0.wav", "a machine decides there on what a person left") in [
        (row["path"], row["why"]) for row in plan.rows
    ]


def nested(n):
    return b'{"labelkit_changes": 1, "classes": ' + b"[" * n + b"]" * n + b"}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00" * 10**6, b"[" * 10**6, b"9" * 10**6, nested(500), nested(5 * 10**5),
        bytes(range(256)) * 4000, b'{"a": 1, "a": 2}', b'{"labelkit_changes": 1e999}',
        b'"' + b"x" * 10**6, b"\xff\xfe{}", b'{"labelkit_changes": 1}',
    ],
    ids=range(12),
)  # fmt: skip
def test_large_and_deep_rubbish_is_a_clear_error(parted, tmp_path, content):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    before = snapshot(parted[1])
    done = call(parted[1], "changes", "import", file)
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith(f"Error: {file}: ") and "nothing was imported" in done.stderr
    assert len(done.stderr) < 2000
    assert snapshot(parted[1]) == before


@pytest.mark.slow
def test_random_megabytes(parted, tmp_path):
    before = snapshot(parted[1])
    for seed in range(5):
        file = tmp_path / "x.json"
        file.write_bytes(np.random.default_rng(seed).bytes(10**6))
        assert call(parted[1], "changes", "import", file).exit_code == 2
    assert snapshot(parted[1]) == before


@pytest.mark.slow
def test_what_is_no_file(parted, tmp_path):
    refused(call(parted[1], "changes", "import", tmp_path), "cannot be read (Is a directory)")
    refused(call(parted[1], "changes", "import", tmp_path / "x"), "cannot be read (No such file")
