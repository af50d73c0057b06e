"""The label store: nothing is lost, nothing is done twice, no machine overrides a person."""

import multiprocessing
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from labelkit.errors import StoreBusy, StoreError
from labelkit.records import (
    Batch,
    Clip,
    LabelEvent,
    LabelEvents,
    Predictions,
    Run,
    Scores,
    Suggestions,
    Verdict,
)
from labelkit.stores import materialised, schema
from labelkit.stores.columns import WIDE
from labelkit.stores.labels import LabelStore
from labelkit.stores.lock import locked
from labelkit.stores.query import query


@pytest.fixture
def store(four_clips, tmp_path):
    """A copy to write to."""
    shutil.copytree(four_clips, tmp_path, dirs_exist_ok=True)
    return LabelStore(tmp_path / "labels.duckdb", timeout_s=5)


@pytest.fixture(scope="module")
def four_clips(tmp_path_factory):
    """The folder of a store; only ever read."""
    folder = tmp_path_factory.mktemp("four")
    store = LabelStore(folder / "labels.duckdb", timeout_s=5)
    store.create()
    clips = [
        Clip(path="a.wav", labels=("Dog",), state="verified", group="g1"),
        Clip(path="b.wav", labels=("Cat", "Dog"), state="unverified", group="g1"),
        Clip(path="c.wav", labels=(), state="unverified", content_hash="h"),
        Clip(path="d.wav", labels=("Cat",), state="unverified", content_hash="h"),
    ]
    append(store, key="import", classes=["Cat", "Dog"], clips=clips, by_person=True)
    return folder


def append(store, **values):
    with store.write() as session:
        return session.append(
            Batch(**({"key": "k", "kind": "test", "actor": "t", "by_person": False} | values))
        )


def event(clip_id, state, labels=(0,), **values):
    return LabelEvent(clip_id=clip_id, state=state, labels=labels, source="test", **values)


def run(run_id, **values):
    given = {
        "kind": "fold",
        "recipe": "quick",
        "settings": {},
        "seed": 0,
        "classes": ["Cat", "Dog"],
    }
    return Run(**(given | {"run_id": run_id, "as_of": 1} | values))


def rows(store, sql):
    with store.read() as session:
        return session.rows(sql)


def test_views_show_names_and_the_newest_event(store):
    judged = event(1, "self_verified", [0, 1], score=0.5, iteration=3, run_id="r")
    append(store, runs=[run("r")], events=[judged])
    assert rows(store, "select path, labels, state, score, iteration, run_id from labels_now") == [
        ("a.wav", ["Dog"], "verified", None, None, None),
        ("b.wav", ["Cat", "Dog"], "self_verified", 0.5, 3, "r"),
        ("c.wav", [], "unverified", None, None, None),
        ("d.wav", ["Cat"], "unverified", None, None, None),
    ]
    columns = {name for (name,) in rows(store, "select column_name from (describe label_history)")}
    assert {"event_id", "batch_id", "actor", "reason", "clip_id", "path", "labels", "state",
            "source", "made_at", "run_id", "iteration", "score"} <= columns  # fmt: skip
    assert rows(store, "select count(*) from label_history where path = 'b.wav'") == [(2,)]


def test_labels_at_a_batch_or_a_time(store):
    between = rows(store, "select max(made_at)::varchar from batches")[0][0]
    append(store, events=[event(1, "self_verified", [0])])
    for moment in ("1", f"'{between}'", f"timestamp '{between}'"):
        found = rows(store, f"select state from labels_at({moment}) where path = 'b.wav'")
        assert found == [("unverified",)]
    assert rows(store, "select state from labels_at(2) where path = 'b.wav'") == [
        ("self_verified",)
    ]
    assert rows(store, "from labels_at(0)") == rows(store, "from labels_at('2001-01-01')") == []


def test_verified_labels_are_verdicts_and_absence_is_not(store):
    assert rows(store, "select clip_id, class_id, verdict from label_verdicts") == [
        (0, 1, "present")
    ]


def test_the_same_key_is_written_once(store):
    first = append(store, key="x", events=[event(1, "self_verified")])
    again = append(store, key="x", events=[event(2, "self_verified")])
    assert (first.repeated, again.repeated) == (False, True)
    assert first.batch_id == again.batch_id
    assert rows(store, "select count(*) from label_events where batch_id > 1") == [(1,)]


@pytest.mark.parametrize("state", ["verified", "relabeled", "rejected"])
def test_a_machine_never_overrides_a_person(store, state):
    append(store, key="person", by_person=True, events=[event(1, state)])
    for wanted in ("self_verified", "unverified"):
        with pytest.raises(StoreError, match=f"a person left it {state}"):
            append(store, events=[event(1, wanted)])
    with pytest.raises(StoreError, match="a machine may not make it"):
        append(store, events=[event(2, state)])
    append(store, key="again", by_person=True, events=[event(1, "verified")])


def test_one_bad_event_undoes_its_whole_batch(store):
    with pytest.raises(StoreError, match="a person left it"):
        append(store, events=[event(2, "self_verified"), event(0, "unverified")])
    assert rows(store, "select count(*) from batches") == [(1,)]


BAD = [
    ({"clips": [Clip(path="a.wav")]}, "'a.wav' is in the store already"),
    ({"clips": [Clip(path="e.wav"), Clip(path="e.wav")]}, "'e.wav' is in the store already"),
    ({"clips": [Clip(path="e.wav", labels=("Cow",))]}, "no class 'Cow'"),
    ({"classes": ["Dog"]}, "class 'Dog' is in the vocabulary already"),
    ({"events": [event(99, "self_verified")]}, "clip 99: no such clip"),
    ({"events": [event(1, "self_verified", [7])]}, "clip 1: no class 7"),
    ({"events": [event(1, "wrong")]}, "no state 'wrong'"),
    ({"events": [event(1, "self_verified", run_id="ghost")]}, "no run 'ghost'"),
    ({"fold_set": "s", "folds": {9: 0}}, "fold set 's': no clip 9"),
    ({"runs": [run("r")], "predictions": [
        Predictions(run_id="r", clip_ids=np.array([9]), probs=np.ones((1, 2)))]}, "no clip 9"),
    ({"runs": [run("r")], "scores": [
        Scores(run_id="r", metric="m", clip_ids=np.array([9]), values=np.ones(1))]}, "no clip 9"),
    ({"events": [event(1, "self_verified", score=np.nan)]}, "clip 1: score is nan"),
    ({"events": [event(1, "self_verified", score=np.inf)]}, "clip 1: score is inf"),
    ({"verdicts": [Verdict(clip_id=9, class_id=0, verdict="present", rule="r")]}, "no such clip"),
    ({"verdicts": [Verdict(clip_id=1, class_id=9, verdict="present", rule="r")]}, "no class 9"),
    ({"verdicts": [Verdict(clip_id=1, class_id=0, verdict="maybe", rule="r")]}, "CHECK"),
    ({"verdicts": [Verdict(clip_id=1, class_id=0, verdict="present", rule="r", start_s=2.0,
                           end_s=1.0)]}, "CHECK"),
    ({"runs": [run("r", parents=["ghost"])]}, "no parent run 'ghost'"),
    ({"runs": [run("r"), run("r")]}, "'r' is finished already"),
    ({"predictions": [Predictions(run_id="ghost", clip_ids=np.array([1]), probs=np.ones((1, 2)))]},
     "no such run"),
    ({"runs": [run("r")], "predictions": [
        Predictions(run_id="r", clip_ids=np.array([1]), probs=np.ones((1, 3)))]}, "shape"),
    ({"runs": [run("r")], "predictions": [
        Predictions(run_id="r", clip_ids=np.array([1]), probs=np.array([[np.nan, 1]]))]},
     "clip 1 has a NaN"),
    ({"runs": [run("r")], "scores": [
        Scores(run_id="r", metric="lwlrap", clip_ids=np.array([2]), values=np.array([np.nan]))]},
     "score lwlrap of clip 2 is nan"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_rows_are_refused_whole(store, values, message):
    before = rows(store, "from label_history"), rows(store, "select count(*) from batches")
    with pytest.raises(StoreError, match=message):
        append(store, **values)
    assert (
        rows(store, "from label_history"),
        rows(store, "select count(*) from batches"),
    ) == before


def test_folds_are_frozen(store):
    append(store, key="f1", fold_set="s", folds={0: 1, 1: 1})
    append(store, key="f2", fold_set="s", folds={0: 1, 2: 0})
    with store.read() as session:
        assert session.folds("s") == {0: 1, 1: 1, 2: 0}
    with pytest.raises(StoreError, match="frozen: clip 0 stands in fold 1, not 2"):
        append(store, key="f3", fold_set="s", folds={0: 2})


def judged_by(store, trained_on, clip_id, parents=(), run_id="judge"):
    append(
        store, key=run_id, runs=[run(run_id, trained_on=trained_on, parents=parents)],
        predictions=[Predictions(run_id=run_id, clip_ids=np.array([clip_id]),
                                 probs=np.array([[0.4, 0.6]], np.float32))],
    )  # fmt: skip
    with store.read() as session:
        return session.find_leaks()


def test_no_leak_where_there_is_none(store):
    assert judged_by(store, [0, 1], 2) == []


@pytest.mark.parametrize(
    ("trained_on", "clip", "seen"),
    [([2, 1], 2, 2), ([0], 1, 0), ([3], 2, 3)],
    ids=["the clip itself", "its group", "the same bytes"],
)
def test_a_leak_is_found(store, trained_on, clip, seen):
    assert (("judge", clip, "judge", seen)) in judged_by(store, trained_on, clip)


def test_a_leak_through_an_ancestor_is_found(store):
    append(store, key="p", runs=[run("grandparent", trained_on=[2])])
    append(store, key="q", runs=[run("parent", trained_on=[1], parents=["grandparent"])])
    assert ("judge", 2, "grandparent", 2) in judged_by(store, [0], 2, parents=["parent"])


def test_scores_and_events_are_judgements_too(store):
    scores = Scores(run_id="r", metric="m", clip_ids=np.array([1]), values=np.array([0.5]))
    append(store, runs=[run("r", trained_on=[1])], scores=[scores])
    with store.read() as session:
        assert session.find_leaks() == [("r", 1, "r", 1)]
        assert session.find_leaks(["another"]) == []
        assert session.find_leaks(["r"]) == [("r", 1, "r", 1)]


def test_review_queue_orders_what_no_person_decided(store):
    append(store, key="r", runs=[run("r")], suggestions=[
        Suggestions(run_id="r", clip_ids=np.array([0, 1, 3]), given=[[1], [0, 1], [1]],
                    suggested=[[0], [1, 0], [1]], reasons=["a", "b", "d"])],
        scores=[Scores(run_id="r", metric=m, clip_ids=np.array([0, 1, 3]), values=np.array(v))
                for m, v in (("lwlrap", [0.1, 1.0, 0.5]), ("self_confidence", [0.0, 0.1, 0.2]))],
    )  # fmt: skip
    # The labels of d are others than those its reason speaks of.
    assert rows(store, "select path, suggested, lwlrap, run_id, reason from review_queue") == [
        ("d.wav", "Dog", 0.5, "r", None), ("b.wav", "Dog", 1.0, "r", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("suggested", "clip_ids", "message"),
    [([[]], [1], r"clip 1 gets \[\]"), ([[7]], [1], "clip 1 gets"), ([[0]], [9], "no clip 9")],
)
def test_a_suggestion_that_is_none_is_refused(store, suggested, clip_ids, message):
    told = Suggestions(run_id="r", clip_ids=np.array(clip_ids), given=[[0]], suggested=suggested,
                       reasons=["x"])  # fmt: skip
    with pytest.raises(StoreError, match=message):
        append(store, key="r", runs=[run("r")], suggestions=[told])
    with pytest.raises(StoreError, match="suggestions of 'q': no such run"):
        append(store, key="q", suggestions=[Suggestions(**vars(told) | {"run_id": "q"})])


def test_disagreements_of_two_people(store):
    for actor, verdict in (("ann", "present"), ("bob", "absent"), ("bob", "absent")):
        append(store, key=f"{actor}{time.monotonic_ns()}", actor=actor, by_person=True,
               verdicts=[Verdict(clip_id=1, class_id=0, verdict=verdict, rule="r")])  # fmt: skip
    assert rows(store, "from disagreements") == [(1, "b.wav", "Cat", ["ann"], ["bob"])]
    append(store, key="last", actor="bob", by_person=True,
           verdicts=[Verdict(clip_id=1, class_id=0, verdict="present", rule="r")])  # fmt: skip
    assert rows(store, "from disagreements") == []


def test_a_newer_store_is_refused(store):
    with store.write() as session:
        session.rows("insert into schema_migrations values (99, 'future', now())")
    for attempt in (store.create, lambda: rows(store, "select 1"), lambda: append(store)):
        with pytest.raises(StoreError, match=r"schema version 99.*install a newer labelkit"):
            attempt()


def test_creating_again_changes_nothing(store):
    before = rows(store, "from schema_migrations")
    store.create()
    assert rows(store, "from schema_migrations") == before
    assert [number for number, *_ in before] == list(range(1, schema.VERSION + 1))


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        rows(LabelStore(tmp_path / "none.duckdb"), "select 1")
    junk = tmp_path / "junk.duckdb"
    junk.write_text("not a database" * 1000)
    with pytest.raises(StoreError, match=r"junk\.duckdb"):
        LabelStore(junk).create()
    assert junk.read_text().startswith("not a database")


def test_an_exception_undoes_everything(store):
    with pytest.raises(RuntimeError), store.write() as session:
        session.append(Batch(key="x", kind="t", actor="t", by_person=True, classes=["Cow"]))
        raise RuntimeError
    assert rows(store, "select name from classes order by class_id") == [("Cat",), ("Dog",)]


def hold(path, started, seconds):
    with LabelStore(Path(path)).write():
        started.set()
        time.sleep(seconds)


@pytest.mark.slow
def test_a_held_store_is_waited_for_and_then_named_busy(store, capfd):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    holder = context.Process(target=hold, args=(str(store.path), started, 6))
    holder.start()
    assert started.wait(30)
    impatient = LabelStore(store.path, timeout_s=1.2)
    with pytest.raises(StoreBusy, match=rf"in use by PID {holder.pid} .*--lock-timeout"):
        rows(impatient, "select 1")
    assert f"waiting for labels.duckdb, in use by PID {holder.pid}" in capfd.readouterr().err
    patient = LabelStore(store.path, timeout_s=30)
    assert rows(patient, "select 1") == [(1,)]
    holder.join()


def test_readers_share_and_a_writer_waits_for_them(store):
    with store.read(), store.read() as second:
        assert second.last_batch() == 1
        with pytest.raises(StoreBusy):
            append(LabelStore(store.path, timeout_s=0.1))


def test_writers_take_turns(store):
    def write(number):
        for turn in range(5):
            append(LabelStore(store.path), key=f"{number}/{turn}", events=[event(1, "unverified")])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(store, "select count(*), count(distinct batch_id), max(event_id) from label_events "
                       "where batch_id > 1") == [(20, 20, 23)]  # fmt: skip


def test_the_lock_is_not_lost_when_the_file_is_read_beside(store):
    # DuckDB's own lock is: a POSIX lock goes with any close of the file (spec: STORE.md 1.3).
    with store.write():
        store.path.read_bytes()
        with (
            pytest.raises(StoreBusy),
            locked(store.path, exclusive=True, timeout_s=0.05),
        ):
            pass


def test_a_large_run_lies_beside_the_store(store, monkeypatch, tmp_path):
    probs = np.array([[0.25, 0.75], [0.875, 0.125]], np.float32)
    small = Predictions(run_id="small", clip_ids=np.array([2]), probs=probs[:1])
    large = Predictions(run_id="it's/large", clip_ids=np.array([3, 1]), probs=probs)
    monkeypatch.setattr(materialised, "ROWS_OF_RUN", 1)
    append(store, runs=[run("small"), run("it's/large")], predictions=[small, large])
    everything = [
        ("it's/large", 1, [0.875, 0.125], 0), ("it's/large", 3, [0.25, 0.75], 1),
        ("small", 2, [0.25, 0.75], 1),
    ]  # fmt: skip
    assert rows(store, "from predictions order by all") == everything
    [(file,)] = rows(store, "select file from prediction_files")
    assert rows(store, "select count(*) from prediction_rows") == [(1,)]
    assert sorted(p.name for p in (tmp_path / file).parent.iterdir()) == [Path(file).name]
    with store.read() as session:
        clip_ids, _, found = session.predictions("it's/large")
    assert clip_ids.tolist() == [1, 3] and found.tolist() == [[0.875, 0.125], [0.25, 0.75]]
    assert rows(store, "select class, probability from predictions_long where clip_id = 1") == [
        ("Cat", 0.875), ("Dog", 0.125),
    ]  # fmt: skip
    # Users reach it through the sandbox, and the past without it.
    assert query(store, "from predictions order by all", timeout_s=9).rows == everything
    assert rows(LabelStore(store.path, as_of="1"), "from predictions") == []
    # The folder may move.
    monkeypatch.chdir("/")
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert rows(LabelStore(moved / store.path.name), "from predictions order by all") == everything


def test_a_large_run_names_each_clip_once_and_leaves_nothing_behind(store, monkeypatch, tmp_path):
    monkeypatch.setattr(materialised, "ROWS_OF_RUN", 1)
    twice = Predictions(run_id="r", clip_ids=np.array([1, 1]), probs=np.full((2, 2), 0.5))
    with pytest.raises(StoreError, match="predictions of 'r': a clip is there twice"):
        append(store, runs=[run("r")], predictions=[twice])
    assert rows(store, "from prediction_files") == [] and not list(tmp_path.rglob("*.parquet"))


def test_the_maintained_state_is_what_the_events_say(store, monkeypatch):
    monkeypatch.setattr(materialised, "TAIL", 3)
    rng = np.random.default_rng(0)
    for number in range(12):
        given = [event(int(clip), "unverified", (number % 2,)) for clip in rng.integers(1, 4, 2)]
        append(store, key=str(number), events=given)
        naive = rows(store, "select clip_id, max(event_id), max_by(state, event_id), max_by(labels,"
                            " event_id) from label_events group by all order by 1")  # fmt: skip
        assert rows(store, "select clip_id, event_id, state, labels from current_events "
                           "order by 1") == naive  # fmt: skip
    kept, mark = rows(
        store, "select (select count(*) from clip_state), event_id from clip_state_mark"
    )[0]
    assert kept == 4 and 20 < mark < 28
    # A past before the mark knows nothing of what is kept.
    past = LabelStore(store.path, as_of="3")
    assert rows(past, "select max(event_id) from current_events") == [(7,)]
    with store.write() as session:
        session.rows("update state_rows set state = 'rejected' where clip_id = 1")
    assert (1, "rejected") in rows(store, "select clip_id, state from clip_state")
    with store.write() as session:
        materialised.rebuild_state(session)
    assert (
        rows(store, "select clip_id, event_id, state, labels from current_events order by 1")
        == naive
    )


def doubt(row):
    """The order of review_queue: fusion, what was scored with it, or else lwlrap, and the id."""
    fusion, lwlrap, confidence = (2 if value is None else value for value in row[4:7])
    return fusion, lwlrap if fusion == 2 else confidence, confidence, row[0]


def test_the_maintained_scores_are_what_the_runs_say(store, monkeypatch):
    rng = np.random.default_rng(0)

    def add(number, tail):
        monkeypatch.setattr(materialised, "TAIL", tail)
        monkeypatch.setattr(materialised, "TAIL_SHARE", 0)
        name, kind = f"r{number}", "score" if number % 3 == 2 else "train"
        clips = np.sort(rng.choice(4, rng.integers(1, 5), replace=False))
        metrics = [("fusion",), ("lwlrap", "self_confidence"), ("lwlrap",), ()][number % 4]
        given = [
            Scores(
                run_id=name,
                metric=metric,
                clip_ids=clips,
                values=rng.choice([0, 0.5, 1], len(clips)),
            )
            for metric in metrics
        ]
        told = [Suggestions(run_id=name, clip_ids=clips, given=[[0]] * len(clips),
                            suggested=rng.integers(2, size=(len(clips), 1)).tolist(),
                            reasons=[f"{name} {k}" for k in clips])]  # fmt: skip
        append(store, key=name, runs=[run(name, kind=kind, iteration=number % 2)], scores=given,
               suggestions=told if number % 2 else [])  # fmt: skip

    lengths = set()
    for number in range(14):
        add(number, tail=(2, 1000)[number % 3 == 0])
        state = ("verified", "unverified", "rejected", "self_verified")[number // 3 % 4]
        append(store, key=f"{number} events", by_person=True,
               events=[event(number % 3, state, (0,))])  # fmt: skip
        with store.write() as session:
            found = session.rows("from newest_scores order by clip_id")
            queue = session.rows("from review_queue")
            session.rows("delete from clip_scores")
            session.rows("delete from clip_scores_mark")
            assert session.rows("from newest_scores order by clip_id") == found
            assert session.rows("from review_queue") == queue
            assert sorted(row[:1] for row in queue) == session.rows(
                "select distinct clip_id from scores where clip_id in (select clip_id from "
                "labels_now where state in ('unverified', 'self_verified')) order by 1"
            )
            lengths.add(len(queue))
            assert session.rows("from review_top(null)") == queue
            for how_many in range(5):
                assert session.rows(f"from review_top({how_many})") == queue[:how_many]
            assert queue == sorted(queue, key=doubt)
            raise_back(session)
    assert rows(store, "select count(*) from clip_scores")[0][0] == 4 and len(lengths) == 4
    past = LabelStore(store.path, as_of="20")
    assert rows(past, "from review_top(2)") == rows(past, "from review_queue")[:2] != queue[:2]


def raise_back(session):
    """Leave a transaction that only looked as it was."""
    session.rows("rollback")
    session.rows("begin")


def test_what_a_run_says_comes_with_the_run(store):
    ids = np.array([1, 2])
    judged = Predictions(run_id="r", clip_ids=ids, probs=np.eye(2))
    scored = Scores(run_id="r", metric="lwlrap", clip_ids=ids, values=np.array([0.5, 0.25]))
    append(store, key="1", runs=[run("r")], predictions=[judged])
    with pytest.raises(StoreError, match="predictions of 'r': no such run in the batch"):
        append(store, key="2", predictions=[judged])
    with pytest.raises(StoreError, match="scores lwlrap of 'r': no such run in the batch"):
        append(store, key="2", scores=[scored])
    assert rows(LabelStore(store.path, as_of="1"), "from newest_scores") == []


def test_runs_on_labels_of_the_past_are_not_the_newest_word(store):
    def add(name, probs, **settings):
        judged = Predictions(run_id=name, clip_ids=np.array([1, 2]), probs=probs)
        scored = Scores(run_id=name, metric="lwlrap", clip_ids=np.array([1, 2]),
                        values=np.array([0.5, 0.25]))  # fmt: skip
        append(store, key=name, runs=[run(name, kind="train", settings=settings)],
               predictions=[judged], scores=[scored])  # fmt: skip

    add("now", np.eye(2))
    queue = rows(store, "from review_queue")
    add("then", np.eye(2)[::-1], of_the_past=True)
    assert rows(store, "from review_queue") == queue and len(queue) == 2
    with store.read() as session:
        assert session.last_run() == "now"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": [[0], [1]]}, "2 labels for 3 clips"),
        ({"labels": [[0], [1], [0], [1]]}, "4 labels for 3 clips"),
        ({"states": ["unverified"]}, "1 states for 3 clips"),
        ({"scores": [0.5]}, "1 scores for 3 clips"),
        ({"evidence": ["{}"]}, "1 evidence for 3 clips"),
        ({"labels": [[0], [1.9], []]}, "labels are float64, not ids of classes"),
        ({"labels": [[0], ["Dog"], []]}, "not ids of classes"),
    ],
)
def test_columns_that_do_not_fit_are_refused(store, columns, message):
    given = {"clip_ids": np.array([1, 2, 3]), "states": ["unverified"] * 3,
             "labels": [[0], [], [1]], "sources": ["t"] * 3}  # fmt: skip
    with pytest.raises(StoreError, match=message):
        append(store, events=LabelEvents(**(given | columns)))
    assert rows(store, "select count(*) from label_events") == [(4,)]


@pytest.mark.parametrize(
    ("moment", "found"),
    [("2", 2), ("1", 1), ("today() + 1", 2), ("'2001-01-01'", 0), ("'2001-1-1'", 0), ("0", 0),
     ("now()", 2), ("now() - interval 1 hour", 0), ("'2035-01-01T00:00:00+14:00'", 2)],
)  # fmt: skip
def test_labels_at_takes_what_a_moment_may_be(store, monkeypatch, moment, found):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        append(store, events=[event(1, "self_verified")])
        sql = f"select coalesce(max(batch_id), 0) from labels_at({moment})"
        assert rows(store, sql) == [(found,)]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("moment", "message"),
    [("99", "no batch 99, the last is 1"), ("'-1'", "no batch -1"), ("null", "null is no batch"),
     ("'soon'", "soon is no batch, date or time")],
)  # fmt: skip
def test_labels_at_refuses_what_is_no_moment(store, moment, message):
    with pytest.raises(StoreError, match=message):
        rows(store, f"from labels_at({moment})")


@pytest.mark.parametrize("width", [1, 2, WIDE, WIDE + 3])
def test_label_sets_of_any_width_come_in_sorted_and_each_once(tmp_path, width):
    names = [f"c{k}" for k in range(20)]
    store = LabelStore(tmp_path / "labels.duckdb")
    store.create()
    clips = [Clip(path=f"{n}.wav") for n in range(50)]
    append(store, key="import", classes=names, clips=clips, by_person=True)
    rng = np.random.default_rng(width)
    given = [rng.integers(0, 20, rng.integers(0, width + 1)).tolist() for _ in clips]
    given[7] = rng.permutation(20)[:width].tolist()
    append(store, events=LabelEvents(
        clip_ids=np.arange(50), states=["unverified"] * 50, labels=given, sources=["t"] * 50,
    ))  # fmt: skip
    assert rows(store, "select labels from current_events order by clip_id") == [
        (sorted(set(labels)),) for labels in given
    ]


def test_what_json_cannot_hold_is_null(store):
    odd = event(1, "unverified", evidence={"loss": float("nan"), "path": [1.0, float("inf")]})
    append(store, events=[odd], runs=[run("r", metrics={"verified_accuracy": float("nan")})])
    assert rows(store, "select evidence->'loss', evidence->'path' from label_history "
                       "where evidence is not null") == [("null", "[1.0,null]")]  # fmt: skip
    assert rows(store, "select verified_score from run_summary") == [(None,)]


@pytest.mark.parametrize("class_ids", [None, np.array([0, 1, 0])])
def test_a_run_says_one_thing_of_a_clip(store, class_ids):
    ids = np.array([1, 2, 1])
    probs = Predictions(run_id="r", clip_ids=ids, probs=np.full((3, 2), 0.5))
    with pytest.raises(StoreError, match="predictions of 'r': a clip is there twice"):
        append(store, runs=[run("r")], predictions=[probs])
    given = [
        Scores(run_id="r", metric="m", clip_ids=ids[part], values=np.ones(len(ids[part])),
               class_ids=None if class_ids is None else class_ids[part])
        for part in (slice(0, 2), slice(2, 3))
    ]  # fmt: skip
    with pytest.raises(StoreError, match="scores m of 'r': a clip is there twice"):
        append(store, runs=[run("r")], scores=given)
    assert rows(store, "select count(*) from runs") == [(0,)]
    append(store, runs=[run("r")], scores=given[:1], predictions=[])
