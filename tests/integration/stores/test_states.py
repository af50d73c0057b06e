"""Who may give a clip which state: machines may what the table says, people may all."""

import json
from itertools import product

import pytest

from labelkit import registry
from labelkit.config import FormatSpec
from labelkit.datasets.formats import read_corrections
from labelkit.errors import StoreError
from labelkit.labels.changes.merge import ClipState, allowed
from labelkit.records import Batch, Clip, LabelEvent
from labelkit.states import (
    ACTORS,
    CORRECTION,
    IMPORT,
    MACHINE,
    MACHINE_STATES,
    STATE_CHANGES,
    STATES,
)
from labelkit.stores.labels import LabelStore

# As docs/store.md prints it: what a machine may do, and with what.
OPEN = {change.state for change in STATE_CHANGES if change.actor == MACHINE}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One clip in each state."""
    store = LabelStore(tmp_path_factory.mktemp("states") / "labels.duckdb")
    store.create()
    clips = [Clip(path=f"{state}.wav", labels=("Dog",), state=state) for state in STATES]
    with store.write() as session:
        session.append(batch("import", by_person=True, classes=["Dog"], clips=clips))
    return store


def batch(key, **values):
    return Batch(key=key, kind="test", actor="t", **values)


def test_every_change_is_of_a_known_actor_and_state_once():
    pairs = [(change.actor, change.state) for change in STATE_CHANGES]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) <= set(product(ACTORS, STATES))
    assert set(MACHINE_STATES) == OPEN


def test_corrections_give_the_states_they_are_said_to(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"a.wav": "Dog", "b.wav": "remove", "c.wav": ["Dog", "Cat"]}))
    reading = read_corrections(file, FormatSpec())
    told = {change.state for change in STATE_CHANGES if change.actor == CORRECTION}
    assert not reading.faults and {clip.state for clip in reading.clips} == told


@pytest.mark.parametrize("state", STATES)
def test_an_import_gives_each_state_it_is_said_to(tmp_path, state):
    assert (IMPORT, state) in {(change.actor, change.state) for change in STATE_CHANGES}
    file = tmp_path / "c.csv"
    file.write_text(f"path,labels,state\na.wav,Dog,{state}\n")
    reading = registry.resolve("format", "csv")(file, FormatSpec())
    assert not reading.faults and [clip.state for clip in reading.clips] == [state]


@pytest.mark.parametrize("by_person", [False, True])
@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_a_machine_moves_clips_between_its_states_alone(store, before, after, by_person):
    event = LabelEvent(clip_id=STATES.index(before), state=after, labels=[0], source="t")
    may = by_person or {before, after} <= OPEN
    given = ClipState(
        state=after, labels=("Dog",), by_person=by_person, actor="t", made_at=None, batch="b"
    )
    assert allowed(before, [given]) == may

    class Kept(Exception):
        """The event counts; roll it back, so that each pair begins from the same store."""

    with pytest.raises(Kept if may else StoreError) as raised, store.write() as session:
        session.append(batch(f"{before} to {after}", by_person=by_person, events=[event]))
        assert session.labels().states[event.clip_id] == after
        raise Kept
    if not may:
        assert f"a machine may not make it {after}" in str(raised.value)
    with store.read() as session:
        assert session.labels().states.tolist() == list(STATES)
