"""What answers make of clips, without any server: resolution, ledger, store."""

import json
import shutil
from datetime import datetime, timedelta

import numpy as np
import pytest

from labelkit.config import ReviewSpec
from labelkit.errors import StoreError
from labelkit.records import Batch, Clip, LabelEvent, Review, ReviewTask, Verdict
from labelkit.review.ledger import Ledger
from labelkit.review.resolution import Decision, newest_answers, resolve, verdicts_of_answer
from labelkit.stores.labels import LabelStore
from labelkit.stores.reviews import sent_tasks, standing_reviews
from tests.support.label_studio_server import answer

CLASSES = ["Bark", "Dog", "Rain"]
START = datetime(2026, 1, 1)
USERS = {1: "ann", 2: "bob", 3: "cem"}


def review(annotator, *labels, answer="labels", minute=0, **values):
    given = {
        "project": "p", "task_id": 1, "annotation_id": hash((annotator, minute)) % 1000,
        "updated_at": START + timedelta(minutes=minute), "clip_id": 0, "annotator_id": None,
        "annotator": annotator, "answer": answer, "labels": labels, "raw": "{}",
    }  # fmt: skip
    return Review(**given | values)


def decide(*reviews, **options):
    return resolve({0: list(reviews)}, CLASSES, **options)[0]


def test_one_answer_decides():
    assert decide(review("ann", "Dog")).labels == (1,)
    assert decide(review("ann", answer="none")).labels == ()
    assert decide(review("ann", answer="no_sound")).labels is None
    assert decide(review("ann", answer="unsure")).status == "open"
    assert decide(review("ann", answer="skipped")).status == "open"
    assert decide(review("ann", answer="quarantined")).status == "open"


def test_of_one_annotator_the_newest_counts():
    first, last = review("ann", "Dog"), review("ann", "Rain", minute=5)
    assert decide(last, first).labels == (2,)
    # A skip of another task says nothing, and takes nothing back.
    assert newest_answers([first, review("ann", answer="skipped", minute=9)]) == {"ann": first}


def test_fewer_answers_than_asked_for_wait():
    assert decide(review("ann", "Dog"), overlap=2).status == "awaiting"
    assert decide(review("ann", "Dog"), review("bob", "Dog"), overlap=2).labels == (1,)
    # Somebody who could not say has answered.
    unsure = review("bob", answer="unsure")
    assert decide(review("ann", "Dog"), unsure, overlap=2).labels == (1,)


@pytest.mark.parametrize(
    "rule, said, labels",
    [
        ("majority", [("Dog",), ("Dog",), ("Rain",)], (1,)),
        ("majority", [("Dog",), ("Rain",)], "disagreement"),
        ("majority", [("Dog", "Bark"), ("Dog",), ("Rain",)], "disagreement"),
        ("per_class", [("Dog", "Bark"), ("Dog",), ("Rain",)], (1,)),
        ("per_class", [("Dog", "Bark"), ("Dog",)], "disagreement"),
        ("per_class", [("Dog",), ("Bark",), ("Rain",)], "disagreement"),
        ("quality", [("Dog",), ("Dog",), ("Rain",)], (1,)),
    ],
)
def test_rules(rule, said, labels):
    reviews = [review(name, *mine) for name, mine in zip(("ann", "bob", "cem"), said, strict=False)]
    probs = {0: np.array([0.2, 0.5, 0.3])}
    others = {k: [review("ann", "Dog"), review("bob", "Dog")] for k in range(1, 6)}
    found = resolve({0: reviews} | others, CLASSES, rule=rule, probs=probs, only=[0])
    assert set(found) == {0}
    decision = found[0]
    assert (decision.labels if decision.status == "decided" else decision.status) == labels
    assert decision.rule == rule


def test_no_usable_sound_competes_too():
    two = [review("ann", answer="no_sound"), review("bob", answer="no_sound")]
    assert decide(*two, review("cem", "Dog")).labels is None
    assert decide(two[0], review("cem", "Dog")).status == "disagreement"


def test_states():
    assert Decision("decided", (1,)).state([1]) == ("verified", [1])
    assert Decision("decided", (1,)).state([0]) == ("relabeled", [1])
    assert Decision("decided", ()).state([0]) == ("relabeled", [])
    assert Decision("decided", None).state([0]) == ("rejected", [0])


def test_verdicts_are_of_what_was_in_question():
    class_id = {name: k for k, name in enumerate(CLASSES)}
    said = verdicts_of_answer(review("ann", "Rain"), class_id, {1, 2})
    assert said == {1: "absent", 2: "present"}
    assert verdicts_of_answer(review("ann", answer="skipped"), class_id, {1}) == {}


@pytest.fixture(scope="module")
def four_clips(tmp_path_factory):
    """The folder of a store with four clips under review; only ever read."""
    folder = tmp_path_factory.mktemp("four")
    store = LabelStore(folder / "labels.duckdb")
    store.create()
    clips = [Clip(path=f"{k}.wav", labels=("Dog",), state="unverified") for k in range(4)]
    with store.write() as session:
        session.append(Batch(key="i", kind="import", actor="me", by_person=True,
                             classes=CLASSES, clips=clips))  # fmt: skip
        tasks = [
            ReviewTask(project="p", task_id=10 + k, clip_id=k, model_version="m", score=0.1,
                       suggested=[0], page_hash="h") for k in range(4)
        ]  # fmt: skip
        session.append(Batch(key="t", kind="push", actor="me", by_person=True, review_tasks=tasks))
    return folder


@pytest.fixture
def store(four_clips, tmp_path):
    """A copy to write to."""
    shutil.copytree(four_clips, tmp_path, dirs_exist_ok=True)
    return LabelStore(tmp_path / "labels.duckdb")


def task(clip_id, *annotations, **data):
    return {
        "id": 10 + clip_id,
        "data": {"clip_id": clip_id, "path": f"{clip_id}.wav", **data},
        "annotations": list(annotations),
        "updated_at": "2026-01-01T00:00:00Z",
    }


def annotation(number, who, result, minute=0, **values):
    when = (START + timedelta(minutes=minute)).isoformat() + "Z"
    return {
        "id": number, "completed_by": who, "result": result, "was_cancelled": False,
        "created_at": when, "updated_at": when, "lead_time": 2.0, **values,
    }  # fmt: skip


def take(store, *tasks, spec=None, **options):
    with store.write() as session:
        ledger = Ledger(session, "p", spec or ReviewSpec())
        return dict(ledger.take_tasks(tasks, USERS, **options))


def now(store, clip_id):
    with store.read() as session:
        return session.rows("select labels, state from labels_now where clip_id = ?", [clip_id])[0]


def test_taking_twice_brings_nothing(store):
    answers = task(0, annotation(1, 1, answer(["Rain"])))
    assert take(store, answers) == {"labels": 1, "relabeled": 1}
    assert take(store, answers) == {}
    with store.read() as session:
        (standing,) = standing_reviews(session, "p")
        assert (standing.annotator, standing.labels, standing.model_version) == (
            "ann", ("Rain",), "m",
        )  # fmt: skip
        assert json.loads(standing.raw) == answers["annotations"][0]
        assert session.rows("select actor, by_person from batches where kind = 'review'") == [
            ("ann", True)
        ]


def test_an_older_version_never_comes_back(store):
    old, new = (annotation(1, 1, answer([name]), m) for name, m in (("Rain", 0), ("Bark", 5)))
    take(store, task(0, new))
    assert take(store, task(0, old), whole=False) == {}
    assert now(store, 0)[0] == ["Bark"]


def test_an_answer_missing_from_an_export_is_not_deleted(store):
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    assert take(store, task(0), whole=False) == {}
    assert now(store, 0) == (["Rain"], "relabeled")
    assert take(store, task(0)) == {"deleted": 1, "unverified": 1}
    assert now(store, 0) == (["Dog"], "unverified")


def test_a_tie_opens_the_clip_again_and_deletion_settles_it(store):
    ann, bob = annotation(1, 1, answer(["Rain"])), annotation(2, 2, answer(["Bark"]), 1)
    take(store, task(0, ann))
    assert take(store, task(0, ann, bob)) == {"labels": 1, "unverified": 1}
    assert now(store, 0) == (["Dog"], "unverified")
    assert take(store, task(0, bob)) == {"deleted": 1, "relabeled": 1}
    assert now(store, 0) == (["Bark"], "relabeled")


def test_a_later_decision_elsewhere_is_not_overridden_by_an_older_answer(store):
    ann = annotation(1, 1, answer(["Rain"]))
    take(store, task(0, ann))
    with store.write() as session:
        correction = LabelEvent(clip_id=0, state="relabeled", labels=[0], source="import")
        session.append(Batch(key="c", kind="import", actor="me", by_person=True,
                             events=[correction]))  # fmt: skip
    # A second annotator who only skips, or is unsure, leaves it as it is.
    skip = annotation(2, 2, [], 5, was_cancelled=True)
    unsure = annotation(3, 3, answer(verdict=["unsure"]), 6)
    take(store, task(0, ann, skip, unsure))
    assert now(store, 0) == (["Bark"], "relabeled")
    # A newer answer of the first is a newer decision.
    later = 60 * 24 * 365 * 50
    take(store, task(0, annotation(1, 1, answer(["Rain"]), later), skip, unsure))
    assert now(store, 0) == (["Rain"], "relabeled")


def test_an_old_answer_that_comes_late_does_not_override(store):
    with store.write() as session:
        correction = LabelEvent(clip_id=0, state="relabeled", labels=[0], source="import")
        session.append(Batch(key="c", kind="import", actor="me", by_person=True,
                             events=[correction]))  # fmt: skip
    assert take(store, task(0, annotation(1, 1, answer(["Rain"])))) == {"labels": 1}
    assert now(store, 0) == (["Bark"], "relabeled")


def test_answers_of_another_project_stand_for_themselves(store):
    def other(*tasks):
        with store.write() as session:
            return dict(Ledger(session, "q", ReviewSpec()).take_tasks(tasks, USERS))

    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    other(task(0, annotation(9, 2, answer(["Bark"]), 5)))
    assert now(store, 0) == (["Bark"], "relabeled")
    # An older answer that comes later does not win, and a deletion leaves the other's.
    take(store, task(0, annotation(1, 1, answer(["Rain"])), annotation(2, 3, answer(["Rain"]), 1)))
    assert now(store, 0) == (["Bark"], "relabeled")
    other(task(0))
    assert now(store, 0) == (["Rain"], "relabeled")


def test_the_answer_that_decides_is_the_actor(store):
    skip = annotation(2, 2, [], 5, was_cancelled=True)
    take(store, task(0, annotation(1, 1, answer(["Rain"])), skip))
    with store.read() as session:
        assert session.rows("select actor, labels from label_history where kind = 'review'") == [
            ("ann", ["Rain"])
        ]


def test_two_answers_of_one_person(store):
    new, old = annotation(1, 1, answer(["Bark"]), 9), annotation(2, 1, answer(["Rain"]), 1)
    take(store, task(0, new, old))
    assert now(store, 0) == (["Bark"], "relabeled")
    assert said(store, "ann") == {"Bark": "present", "Dog": "absent"}
    take(store, task(0, old))
    assert now(store, 0) == (["Rain"], "relabeled")
    assert said(store, "ann")["Rain"] == "present"


def said(store, actor):
    """What a person last said of each class of clip 0."""
    with store.read() as session:
        return dict(
            session.rows(
                "select c.name, max_by(v.verdict, v.verdict_id) from label_verdicts v "
                "join batches b using (batch_id) join classes c using (class_id) "
                "where b.kind = 'review' and actor = ? and clip_id = 0 group by all", [actor],
            )
        )  # fmt: skip


def test_undone_and_done_again(store):
    from labelkit.labels.undo import undo
    from labelkit.project import Project

    project = Project(store.path.parent, store.path.parent)
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    with store.read() as session:
        batch = session.last_batch()
    undo(project, batch)
    undo(project, batch + 1)
    assert now(store, 0) == (["Rain"], "relabeled")
    take(store, task(0))
    assert now(store, 0) == (["Dog"], "unverified")


def test_undone_tombstones_of_tasks(store):
    from labelkit.labels.undo import undo
    from labelkit.project import Project

    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    with store.write() as session:
        assert Ledger(session, "p", ReviewSpec()).take_deleted({11, 12, 13}) == 1
        batch = session.last_batch()
    undo(Project(store.path.parent, store.path.parent), batch)
    with store.read() as session:
        assert len(sent_tasks(session, "p")) == 4
        assert len(session.rows("from reviews_now")) == 1


@pytest.mark.parametrize("odd", [7, None, {"id": [1]}, {"id": 3}, {}])
def test_odd_annotations_go_to_quarantine(store, odd):
    good = annotation(1, 1, answer(["Rain"]))
    assert take(store, task(0, odd, good))["quarantined"] == 1
    assert now(store, 0) == (["Rain"], "relabeled")


def test_an_annotation_that_changes_hands(store):
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    take(store, task(0, annotation(1, 2, answer(["Bark"]), 3)))
    assert now(store, 0) == (["Bark"], "relabeled")
    with store.read() as session:
        rows = session.rows(
            "select b.actor, c.name, max_by(v.verdict, v.verdict_id) from label_verdicts v "
            "join batches b using (batch_id) join classes c using (class_id) "
            "where b.kind = 'review' group by all order by all"
        )
    assert ("ann", "Rain", "withdrawn") in rows and ("bob", "Bark", "present") in rows


def test_tasks_that_are_gone(store):
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    with store.write() as session:
        assert Ledger(session, "p", ReviewSpec()).take_deleted({12, 13}) == 2
    assert now(store, 0) == (["Rain"], "relabeled")
    with store.read() as session:
        assert set(sent_tasks(session, "p")) == {2, 3}
        assert standing_reviews(session, "p") == []
    # A task that is made anew counts from its own answers on; without them the old ones stay.
    again = {**task(0, annotation(7, 2, answer(["Bark"]), 9)), "id": 99}
    take(store, {**task(0, annotation(6, 3, [], 8, was_cancelled=True)), "id": 99})
    assert now(store, 0) == (["Rain"], "relabeled")
    take(store, again)
    assert now(store, 0) == (["Bark"], "relabeled")
    take(store, {**again, "annotations": []})
    assert now(store, 0) == (["Rain"], "relabeled")


def test_a_deleted_answer_that_is_there_again(store):
    there = task(0, annotation(1, 1, answer(["Rain"])))
    take(store, there)
    take(store, task(0))
    assert take(store, there, whole=False) == {}
    assert take(store, there) == {"labels": 1, "relabeled": 1}


def test_a_larger_overlap_counts_anew(store):
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    with store.write() as session:
        counts = Ledger(session, "p", ReviewSpec(overlap=2)).count_anew()
    assert counts == {"unverified": 1}
    assert now(store, 0) == (["Dog"], "unverified")
    with store.write() as session:
        assert Ledger(session, "p", ReviewSpec()).count_anew() == {"relabeled": 1}
        assert Ledger(session, "p", ReviewSpec()).count_anew() == {}


def test_one_answer_of_two_labels_does_not_change_the_rule(store):
    take(store, task(0, annotation(1, 1, answer(["Rain", "Dog"]))))
    answers = [annotation(k, k, answer([name])) for k, name in enumerate(CLASSES, 2)]
    take(store, task(1, *answers))
    assert now(store, 1) == (["Dog"], "unverified")


def test_tasks_of_others_are_left_alone(store):
    theirs = {**task(0, annotation(1, 1, answer(["Rain"]))), "data": {"image": "cat.png"}}
    assert take(store, theirs) == {}
    with store.read() as session:
        assert session.rows("from reviews") == []


def test_a_task_made_anew_before_the_pull(store):
    """The old task is gone, the new one answered, and both come in with one pull."""
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    again = {**task(0, annotation(7, 2, answer(["Bark"]), 9)), "id": 99}
    with store.write() as session:
        ledger = Ledger(session, "p", ReviewSpec())
        assert ledger.take_deleted({11, 12, 13, 99}) == 1
        ledger.take_tasks([again], USERS)
    assert now(store, 0) == (["Bark"], "relabeled")
    take(store, {**again, "annotations": []})
    assert now(store, 0) == (["Rain"], "relabeled")


def test_a_tidied_task_of_two_leaves_the_other_in_force(store):
    again = {**task(0, annotation(7, 2, answer(["Bark"]), 9)), "id": 99}
    take(store, task(0), again)
    with store.write() as session:
        assert Ledger(session, "p", ReviewSpec()).take_deleted({11, 12, 13, 99}) == 1
        assert Ledger(session, "p", ReviewSpec(overlap=2)).count_anew() == {"unverified": 1}
    assert now(store, 0) == (["Dog"], "unverified")


def test_a_state_brought_back_in_one_project_is_no_decision_for_another(store):
    def other(*tasks):
        with store.write() as session:
            return dict(Ledger(session, "q", ReviewSpec()).take_tasks(tasks, USERS))

    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    other(task(0, annotation(9, 2, answer(["Bark"]), 5)))
    other(task(0))
    assert now(store, 0) == (["Rain"], "relabeled")
    take(store, task(0))
    assert now(store, 0) == (["Dog"], "unverified")


def test_undo_of_an_answer_whose_task_is_gone(store):
    from labelkit.labels.undo import undo
    from labelkit.project import Project

    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    with store.write() as session:
        batch = session.last_batch()
        Ledger(session, "p", ReviewSpec()).take_deleted({11, 12, 13})
    undo(Project(store.path.parent, store.path.parent), batch)
    assert now(store, 0) == (["Dog"], "unverified")


def test_verdicts_are_of_what_was_shown(store):
    shown = annotation(1, 1, answer(["Dog"]), prediction={"model_version": "m"})
    with store.write() as session:
        later = ReviewTask(project="p", task_id=10, clip_id=0, model_version="n", score=0.1,
                           suggested=[2], page_hash="h")  # fmt: skip
        session.append(Batch(key="u", kind="push", actor="me", by_person=True,
                             review_tasks=[later]))  # fmt: skip
    take(store, task(0, shown))
    assert said(store, "ann") == {"Bark": "absent", "Dog": "present"}
    take(store, task(0))
    assert said(store, "ann") == {"Bark": "withdrawn", "Dog": "withdrawn"}


def test_none_of_these_taken_back_leaves_other_classes_open(store):
    take(store, task(0, annotation(1, 1, answer(verdict=["none of these"]))))
    assert said(store, "ann") == dict.fromkeys(CLASSES, "absent")
    take(store, task(1, annotation(2, 1, answer(["Bark"]))))
    take(store, task(0, annotation(1, 1, answer(verdict=["unsure"]), 4)))
    assert said(store, "ann") == {"Bark": "unsure", "Dog": "unsure", "Rain": "withdrawn"}


@pytest.mark.parametrize("odd", [{"annotations": None}, {"annotations": [{"id": "1"}]}])
def test_a_task_that_cannot_be_read_deletes_nothing(store, odd):
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    counts = take(store, {**task(0), **odd})
    assert "deleted" not in counts and counts["quarantined"] == 1
    assert now(store, 0) == (["Rain"], "relabeled")
    # The same again is not new.
    assert take(store, {**task(0), **odd}) == {}


def test_the_same_task_twice_in_a_file(store):
    there = task(0, annotation(1, 1, answer(["Rain"])))
    assert take(store, there, there) == {"labels": 1, "relabeled": 1}


def test_quality_is_counted_once_at_the_end(store):
    spec = ReviewSpec(consensus="quality", overlap=2)
    probs = {k: np.array([0.1, 0.2, 0.7]) for k in range(4)}
    both = [annotation(k, k, answer(["Dog"]), k) for k in (1, 2)]
    split = [annotation(3, 1, answer(["Rain"])), annotation(4, 2, answer(["Bark"]), 1)]
    with store.write() as session:
        ledger = Ledger(session, "p", spec, probs)
        assert ledger.take_tasks([task(1, *both), task(0, *split)], USERS)["verified"] == 1
        assert now_in(session, 0) == (["Dog"], "unverified")
        assert ledger.count_anew() == {"relabeled": 1}
        assert now_in(session, 0) == (["Rain"], "relabeled")


def now_in(session, clip_id):
    return session.rows("select labels, state from labels_now where clip_id = ?", [clip_id])[0]


def test_repair_keeps_who_and_when(store):
    take(store, task(0, annotation(1, 1, answer(["Hund"]))), task(1, annotation(2, 2, [{"x": 1}])))
    with store.write() as session:
        ledger = Ledger(session, "p", ReviewSpec())
        ids = [i for (i,) in session.rows("select review_id from quarantine")]
        assert len(ids) == 2
        assert ledger.repair({"Hund": "Bark"}, {ids[1]}, "me") == {
            "labels": 1, "skipped": 1, "relabeled": 1,
        }  # fmt: skip
    assert now(store, 0) == (["Bark"], "relabeled")
    with store.read() as session:
        assert session.rows("from quarantine") == []
        assert [(r.annotator, r.answer) for r in standing_reviews(session, "p")] == [
            ("ann", "labels"), ("bob", "skipped"),
        ]  # fmt: skip
        reasons = session.rows("select reason from batches where kind = 'review' order by all")
    assert sum("brought by me" in reason for (reason,) in reasons) == 2


@pytest.mark.parametrize(
    "values, words",
    [
        ({"labels": ("Cow",)}, "no class 'Cow'"),
        ({"answer": "perhaps"}, "'perhaps'"),
        ({"clip_id": 77}, "no clip 77"),
    ],
)
def test_reviews_that_do_not_fit_are_refused(store, values, words):
    batch = Batch(key="x", kind="review", actor="ann", by_person=True,
                  reviews=[review("ann", **values)])  # fmt: skip
    with pytest.raises(StoreError, match=words), store.write() as session:
        session.append(batch)


def test_an_undone_answer_says_nothing_of_classes(store):
    from labelkit.labels.undo import undo
    from labelkit.project import Project

    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    with store.read() as session:
        batch = session.rows("select batch_id from batches where kind = 'review'")[0][0]
        assert session.decided()
    undo(Project(store.path.parent, store.path.parent), batch)
    with store.read() as session:
        assert session.decided() == [] and session.rows("from disagreements") == []
        assert session.rows("from reviews_now") == []
    assert now(store, 0) == (["Dog"], "unverified")


def test_disagreements_of_withdrawn_verdicts_are_none(store):
    with store.write() as session:
        for number, (actor, verdict) in enumerate(
            [("ann", "present"), ("bob", "absent"), ("bob", "withdrawn")]
        ):
            assert len(session.rows("from disagreements")) == (1 if number == 2 else 0)
            session.append(
                Batch(key=str(number), kind="review", actor=actor, by_person=True,
                      verdicts=[Verdict(clip_id=1, class_id=1, verdict=verdict, rule="r")])
            )  # fmt: skip
        assert session.rows("from disagreements") == []


def bury(store, *there):
    with store.write() as session:
        return Ledger(session, "p", ReviewSpec()).take_deleted(set(there))


def send(store, task_id, clip_id):
    """What a push notes, with what it notes before."""
    with store.write() as session:
        sent = sent_tasks(session, "p", [clip_id])
        Ledger(session, "p", ReviewSpec()).bury([(t.task_id, c) for c, t in sent.items()])
        session.append(
            Batch(
                key=f"t{session.last_batch()}", kind="push", actor="me", by_person=True,
                review_tasks=[ReviewTask(project="p", task_id=task_id, clip_id=clip_id,
                                         model_version="m", score=0.1, suggested=[0],
                                         page_hash="h")],
            )
        )  # fmt: skip


def standing(store):
    with store.read() as session:
        return sorted((r.clip_id, r.annotator, r.answer) for r in standing_reviews(session, "p"))


def on(task_id, clip_id, *annotations, created=None, **values):
    """A task of any number."""
    if created is not None:
        values["created_at"] = (START + timedelta(minutes=created)).isoformat() + "Z"
    return {**task(clip_id, *annotations), "id": task_id, **values}


# The number of a deleted task comes again, for another clip (1) or for the same one (0).
@pytest.mark.parametrize("clip_id", [0, 1])
@pytest.mark.parametrize("same_id", [True, False], ids=["same annotation", "another annotation"])
@pytest.mark.parametrize("noticed", [True, False], ids=["pulled between", "not pulled between"])
@pytest.mark.parametrize("answered", [True, False], ids=["answered", "not answered yet"])
def test_a_number_that_comes_again_is_another_task(store, clip_id, same_id, noticed, answered):
    take(store, task(0, annotation(1, 1, answer(["Rain"]))))
    if noticed:
        assert bury(store, 11, 12, 13) == 1
    send(store, 10, clip_id)
    new = annotation(1 if same_id else 2, 2, answer(["Bark"]), 9)
    take(store, on(10, clip_id, *([new] if answered else []), created=5))
    # Nobody took the first answer back.
    assert now(store, 0)[1] == "relabeled"
    if clip_id or not answered:
        assert now(store, 0) == (["Rain"], "relabeled")
    if answered:
        assert now(store, clip_id) == (["Bark"], "relabeled")
        assert (clip_id, "bob", "labels") in standing(store)
    with store.read() as session:
        rows = session.rows(
            "select count(*) from label_verdicts v join batches b using (batch_id) "
            "where b.actor = 'ann' and v.verdict = 'withdrawn'"
        )
        assert rows == [(0,)]
        assert sent_tasks(session, "p")[clip_id].task_id == 10
    # What is taken back on the new one is taken back there alone.
    if answered:
        assert take(store, on(10, clip_id, created=5))["deleted"] == 1
        assert standing(store) == [] and now(store, 0) == (["Rain"], "relabeled")


def test_all_tasks_deleted_and_imported_again_in_another_order(store):
    said = [annotation(k, 1 + k % 2, answer(["Rain"]), k) for k in range(4)]
    for clip_id in range(4):
        take(store, task(clip_id, said[clip_id]))
    turned = [
        on(10 + (clip_id + 1) % 4, clip_id,
           annotation((clip_id + 1) % 4, 3, answer(["Rain"]), 20, lead_time=None), created=19)
        for clip_id in range(4)
    ]  # fmt: skip
    counts = take(store, *turned)
    assert counts["task_deleted"] == 4 and counts["unheard"] == 4 and "deleted" not in counts
    assert [now(store, clip_id) for clip_id in range(4)] == [(["Rain"], "relabeled")] * 4
    # What people say on the new ones counts, one by one.
    take(store, on(11, 0, annotation(1, 3, answer(["Bark"]), 30), created=19))
    assert now(store, 0) == (["Bark"], "relabeled") and now(store, 3) == (["Rain"], "relabeled")
    assert take(store, *turned[1:])["unheard"] == 3


def test_two_annotators_on_a_number_that_comes_again(store):
    spec = ReviewSpec(overlap=2)
    both = [annotation(k, k, answer(["Rain"]), k) for k in (1, 2)]
    take(store, task(0, *both), spec=spec)
    assert now(store, 0) == (["Rain"], "relabeled")
    send(store, 10, 1)
    take(store, on(10, 1, annotation(2, 1, answer(["Bark"]), 9), created=5), spec=spec)
    assert now(store, 0) == (["Rain"], "relabeled") and now(store, 1)[1] == "unverified"
    second = annotation(3, 2, answer(["Bark"]), 10)
    first = annotation(2, 1, answer(["Bark"]), 9)
    take(store, on(10, 1, first, second, created=5), spec=spec)
    assert now(store, 0) == (["Rain"], "relabeled") and now(store, 1) == (["Bark"], "relabeled")


def test_an_answer_that_was_misplaced_is_one_answer_once_its_clip_is_known(store):
    mark = annotation(1, 1, answer(["Rain"]))
    assert take(store, on(10, 0, mark, data={"clip_id": 0, "path": "x.wav"}))["quarantined"] == 1
    take(store, task(0, {**mark, "updated_at": (START + timedelta(minutes=3)).isoformat()}))
    assert standing(store) == [(0, "ann", "labels")]


UNHEARD = {
    "made of a prediction": {"parent_prediction": 5, "lead_time": None},
    "propagated": {"parent_annotation": 8, "lead_time": None},
    "imported with its task": {"lead_time": None},
    "made of a prediction, by a server that says nothing of time": {"parent_prediction": 5},
}


@pytest.mark.parametrize("kind", UNHEARD)
@pytest.mark.parametrize("whole", [True, False])
def test_what_nobody_made_is_no_answer(store, kind, whole):
    mark = annotation(1, 1, answer(["Rain"]), **UNHEARD[kind])
    if "says nothing" in kind:
        del mark["lead_time"]
    assert take(store, task(0, mark), whole=whole) == {"unheard": 1}
    assert now(store, 0) == (["Dog"], "unverified") and standing(store) == []
    # Who opens and submits it answers.
    heard = {**mark, "lead_time": 3.0, "updated_at": (START + timedelta(minutes=1)).isoformat()}
    take(store, task(0, heard), whole=whole)
    assert now(store, 0) == (["Rain"], "relabeled")


@pytest.mark.parametrize("origin", ["manual", "prediction", "prediction-changed"])
def test_a_copy_of_what_the_page_made_is_no_answer(store, origin):
    items = [{**item, "origin": origin} for item in answer(["Rain"])]
    copied = annotation(1, 1, items, parent_annotation=8, lead_time=None)
    assert take(store, task(0, copied)) == {"unheard": 1}
    assert now(store, 0) == (["Dog"], "unverified")


@pytest.mark.parametrize("origin", ["manual", "prediction", "prediction-changed"])
def test_what_the_page_made_is_an_answer_whoever_took_no_time(store, origin):
    items = [{**item, "origin": origin} for item in answer(["Rain"])]
    take(store, task(0, annotation(1, 1, items, parent_prediction=5, lead_time=None)))
    assert now(store, 0) == (["Rain"], "relabeled")


@pytest.mark.parametrize("change", [{}, {"lead_time": 7.5}, {"result": answer(["Bark"])}])
def test_an_answer_imported_again_with_its_task_is_no_second_one(store, change):
    """A copy has marks and time of the first; whoever answers anew has others."""
    first = annotation(1, 1, answer(["Rain"]), lead_time=3.25)
    take(store, task(0, first))
    copy = annotation(9, 3, answer(["Rain"]), 20, lead_time=3.25) | change
    counts = take(store, on(10, 0, copy, created=19))
    if change:
        assert counts["labels"] == 1 and "unheard" not in counts
        return
    assert counts == {"task_deleted": 1, "unheard": 1}
    assert now(store, 0) == (["Rain"], "relabeled") and standing(store) == []
    # On the same task two may well say the same in the same time.
    take(store, task(1, annotation(5, 1, answer(["Rain"]))))
    take(store, task(1, annotation(5, 1, answer(["Rain"])), annotation(6, 2, answer(["Rain"]))))
    assert len([row for row in standing(store) if row[0] == 1]) == 2
