"""Who may give a clip which state: the table that is printed is the rule that is kept."""

from itertools import product

import pytest

from labelkit.errors import StoreError
from labelkit.labels.changes.merge import ClipState, allowed
from labelkit.records import Batch, Clip, LabelEvent
from labelkit.states import ACTORS, MACHINE, RULES, STATES
from labelkit.stores.labels import LabelStore

# As docs/store.md prints it: what a machine may do, and with what.
OPEN = {rule.state for rule in RULES if rule.actor == MACHINE}


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


def test_every_rule_is_of_a_known_actor_and_state_once():
    pairs = [(rule.actor, rule.state) for rule in RULES]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) <= set(product(ACTORS, STATES))
    assert {"unverified", "self_verified"} == OPEN


@pytest.mark.parametrize("by_person", [False, True])
@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_the_store_keeps_what_the_table_says(store, before, after, by_person):
    event = LabelEvent(clip_id=STATES.index(before), state=after, labels=[0], source="t")
    may = by_person or {before, after} <= OPEN
    given = ClipState(
        state=after, labels=("Dog",), by_person=by_person, actor="t", made_at=None, batch="b"
    )
    assert by_person or allowed(before, [given]) == (before in OPEN and after in OPEN)

    class Kept(Exception):
        """Everything went in; roll it back, so that each pair begins from the same store."""

    with pytest.raises(Kept if may else StoreError) as raised, store.write() as session:
        session.append(batch(f"{before} to {after}", by_person=by_person, events=[event]))
        raise Kept
    if not may:
        assert f"a machine may not make it {after}" in str(raised.value)
    with store.read() as session:
        assert session.labels().states.tolist() == list(STATES)
