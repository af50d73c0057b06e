"""Taking batches back: exactly what was before, except where somebody decided since."""

import json

import numpy as np
import pytest

from labelkit.cleaning.external import import_probs
from labelkit.cleaning.missing import find_missing_labels
from labelkit.cleaning.score import score
from labelkit.cleaning.selection import select
from labelkit.config import FormatSpec
from labelkit.errors import InvalidInput
from labelkit.labels.history import blame
from labelkit.labels.importing import import_labels
from labelkit.labels.undo import undo
from labelkit.records import Batch, LabelEvent, verdicts_of
from labelkit.stores.reviews import read_clips
from tests.support.commands import call, refused, rows, snapshot
from tests.support.labelled import CLASSES, PATHS, N, write_probs
from tests.support.projects import allow_several, copy_project


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_project(labelled, tmp_path / "p")


@pytest.fixture
def selected(project, tmp_path):
    """A project in which a rule trusted some clips, its judge, and the batch."""
    run_id = import_probs(project, write_probs(tmp_path / "a.csv"))
    _, report = select(project, "clean_share", run_ids=[run_id], options={"keep": 0.5})
    return project, run_id, report.batch


def labels_now(project):
    found = rows(project, "select path, labels, state from labels_now order by clip_id")
    return {path: (labels, state) for path, labels, state in found}


def correct(project, corrections):
    allow_several(project, corrections.values())
    file = project.root / "corrections.json"
    file.write_text(json.dumps(corrections))
    import_labels(project, file, "corrections", FormatSpec())


def test_what_was_decided_since_stays(selected):
    project, run_id, batch_id = selected
    before = labels_now(project)
    trusted = [path for path, (_, state) in before.items() if state == "self_verified"]
    other = [path for path in PATHS[8:N] if path not in trusted]
    assert len(trusted) >= 4 and other
    new = "Car" if before[trusted[0]][0] != ["Car"] else "Dog"
    correct(project, {trusted[0]: new, trusted[1]: "remove", other[0]: new})
    # A machine decides, too.
    keep = [path for path in trusted[2:] if path != trusted[2]]
    (project.root / "list.txt").write_text("\n".join(keep))
    select(project, "listed", run_ids=[run_id], listed=project.root / "list.txt")
    assert labels_now(project)[trusted[2]][1] == "unverified"

    now = labels_now(project)
    found = undo(project, batch_id)
    assert (found.undoes, found.clips, found.left) == (batch_id, len(keep), 3)
    after = labels_now(project)
    assert {path for path in now if now[path] != after[path]} == set(keep)
    assert all(after[path] == (before[path][0], "unverified") for path in keep)
    assert after[trusted[0]] == ([new], "relabeled") and after[trusted[1]] == ([], "rejected")


def test_a_correction_is_taken_back_with_its_labels(project):
    before = labels_now(project)
    correct(project, {PATHS[0]: "remove", PATHS[20]: "Car,Dog", PATHS[41]: "Rain,Bird"})
    batch_id = rows(project, "select max(batch_id) from batches")[0][0]
    assert labels_now(project)[PATHS[20]] == (["Car", "Dog"], "relabeled")
    undo(project, batch_id)
    assert labels_now(project) == before
    last = rows(project, "select kind, by_person, undoes from batches order by batch_id desc")[0]
    assert last == ("undo", True, batch_id)
    # What was taken back is no longer anybody's word.
    with project.store.read() as session:
        assert {clip for clip, _ in session.decided()} == set(range(8))
        assert session.unsure() == []
    undo(project, batch_id + 1)
    assert labels_now(project)[PATHS[20]] == (["Car", "Dog"], "relabeled")
    with project.store.read() as session:
        assert {clip for clip, _ in session.decided()} >= {20, 41}
    undo(project, batch_id + 2)
    assert labels_now(project) == before
    with project.store.read() as session:
        assert {clip for clip, _ in session.decided()} == set(range(8))


def decide(project, state, label, *, person):
    """One event on clip 20, of Ann or of the machine."""
    with project.store.write() as session:
        event = LabelEvent(clip_id=20, state=state, labels=[CLASSES.index(label)], source="x")
        return session.append(
            Batch(key=f"on 20 {session.last_batch()}", kind="edit" if person else "verify",
                  actor="ann" if person else "labelkit", by_person=person, events=[event],
                  verdicts=verdicts_of(event, "x", session.labels().labels[20]))
        ).batch_id  # fmt: skip


def test_a_person_whose_word_stands_again_has_the_last_word(project):
    """A machine that decided while it was taken back overrides nobody, neither in blame."""
    [given], _ = labels_now(project)[PATHS[20]]
    new = "Car" if given != "Car" else "Dog"
    hers = decide(project, "relabeled", new, person=True)
    away = undo(project, hers).batch
    of_machine = decide(project, "self_verified", given, person=False)
    back = undo(project, away)
    assert (back.clips, back.left) == (1, 0)
    assert labels_now(project)[PATHS[20]] == ([new], "relabeled")
    [row] = blame(project, PATHS[20])
    assert (row.class_, row.batch_id, row.actor) == (new, hers, "ann")
    # An answer that is withdrawn gives the clip back to her, too.
    with project.store.read() as session:
        unreviewed = read_clips(session, "p", [20])[20]
    assert unreviewed.base == ("relabeled", [CLASSES.index(new)])
    # Then the machine's batch goes and comes, and nothing is seen of it.
    taken = undo(project, of_machine)
    assert (taken.clips, taken.left) == (0, 1)
    assert undo(project, taken.batch).clips == 0
    assert labels_now(project)[PATHS[20]] == ([new], "relabeled")
    # Without her word the machine's is the last one.
    undo(project, back.batch)
    assert labels_now(project)[PATHS[20]] == ([given], "self_verified")


def test_what_a_person_left_open_again_is_the_machines(project):
    """A person's last word counts, not the last with which one decided."""
    [given], _ = labels_now(project)[PATHS[20]]
    new = "Car" if given != "Car" else "Dog"
    decide(project, "relabeled", new, person=True)
    open_again = decide(project, "unverified", given, person=True)
    first = decide(project, "self_verified", given, person=False)
    undo(project, decide(project, "unverified", given, person=False))
    assert labels_now(project)[PATHS[20]] == ([given], "self_verified")
    undo(project, first)
    assert labels_now(project)[PATHS[20]] == ([given], "unverified")
    undo(project, open_again)
    assert labels_now(project)[PATHS[20]] == ([new], "relabeled")


def test_two_batches_are_taken_back_in_any_order(selected):
    project, run_id, first = selected
    start = labels_now(project)
    _, report = select(project, "clean_share", run_ids=[run_id], options={"keep": 0.2})
    second = report.batch
    middle = labels_now(project)
    assert start != middle
    undo(project, second)
    assert labels_now(project) == start
    undo(project, first)
    assert {state for _, state in labels_now(project).values()} == {"verified", "unverified"}


def test_the_first_of_two_batches_can_go_first(selected):
    project, run_id, first = selected
    start = labels_now(project)
    _, report = select(project, "clean_share", run_ids=[run_id], options={"keep": 0.2})
    both = {path for path, (_, state) in labels_now(project).items() if state == "self_verified"}
    assert report.accepted == 0 < report.revoked and both
    # The second had the last word on what it revoked.
    found = undo(project, first)
    assert (found.clips, found.left) == (len(both), report.revoked)
    assert {state for _, state in labels_now(project).values()} == {"verified", "unverified"}
    # What stands now is neither, and then the first alone.
    undo(project, report.batch)
    assert {state for _, state in labels_now(project).values()} == {"verified", "unverified"}
    undo(project, found.batch)
    assert labels_now(project) == start


def test_nobody_undoes_twice(selected):
    project, _, batch_id = selected
    done = call(project, "undo", batch_id)
    assert done.exit_code == 0 and f"undoes: {batch_id}" in done.stderr
    before = snapshot(project)
    refused(call(project, "undo", batch_id),
            f"batch {batch_id} was taken back by batch {batch_id + 1} already")  # fmt: skip
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (999, "no batch 999; see: labelkit log"),
        (0, "no batch 0"),
        (10**30, "no batch 1000000000"),
        pytest.param("9" * 5000, "no batch 999999999999...; see", id="5000 digits"),
        (1, "batch 1 brought clips in on which was built"),
        (3, "batch 3 (folds) changed nothing that still stands"),
        (4, "batch 4 (external) changed nothing that still stands"),
    ],
)
def test_nonsense_is_one_line(selected, batch, message):
    project, *_ = selected
    before = snapshot(project)
    refused(call(project, "undo", batch), message)
    assert snapshot(project) == before


@pytest.mark.parametrize("word", ["last", "1.5", ""])
def test_a_batch_is_a_number(project, word):
    done = call(project, "undo", word)
    assert done.exit_code == 2 and "Traceback" not in done.output


def test_what_is_wholly_overruled_is_not_undone(selected):
    project, _, batch_id = selected
    trusted = [path for path, (_, state) in labels_now(project).items() if state == "self_verified"]
    correct(project, dict.fromkeys(trusted, "remove"))
    before = labels_now(project)
    with project.store.write() as session:
        session.rows("delete from verdict_rows where batch_id = ?", [batch_id])
    with pytest.raises(InvalidInput, match=r"\(select\) changed nothing that still stands"):
        undo(project, batch_id)
    assert labels_now(project) == before


def test_scores_follow_the_labels_there_and_back(selected):
    project, run_id, _ = selected

    def queue():
        score(project, run_id=run_id, methods=("self_confidence",))
        return rows(project, "select path, labels, self_confidence from review_queue")

    first = queue()
    path, (name,), value = first[-1]
    other = "Car" if name != "Car" else "Dog"
    with project.store.write() as session:
        clip_id = PATHS.index(path)
        event = LabelEvent(
            clip_id=clip_id, state="unverified", labels=[CLASSES.index(other)], source="x"
        )
        batch_id = session.append(
            Batch(key="x", kind="x", actor="x", by_person=False, events=[event])
        ).batch_id
    assert dict((p, v) for p, _, v in queue())[path] < value
    undo(project, batch_id)
    assert queue() == first


def test_history_shows_it(selected):
    project, _, batch_id = selected
    path = next(p for p, (_, state) in labels_now(project).items() if state == "self_verified")
    call(project, "undo", batch_id)
    found = json.loads(call(project, "history", path, "--json").stdout)
    assert [row["state"] for row in found] == ["unverified", "self_verified", "unverified"]
    assert [row["kind"] for row in found] == ["import", "select", "undo"]
    assert found[2]["reason"].startswith(f"takes back batch {batch_id}: clean_share, keep 0.5")
    assert json.loads(found[2]["evidence"]) == {"undoes": batch_id}


def test_a_mask_goes_comes_back_and_goes(selected):
    project, run_id, _ = selected

    def unsure():
        with project.store.read() as session:
            return session.unsure()

    def mask():
        return find_missing_labels(project, run_id=run_id, percentile=80, mask=True)[1].batch

    first = mask()
    pairs = unsure()
    assert len(pairs) > 4
    assert undo(project, first).clips == 0 and unsure() == []
    second = mask()
    assert second > first and unsure() == pairs
    assert mask() == second
    taken_back = undo(project, second).batch
    assert unsure() == []
    undo(project, taken_back)
    assert unsure() == pairs


def test_all_clips_come_back_whatever_their_number(project, tmp_path):
    """Clips of a batch with two events each go back to before the first."""
    run_id = import_probs(project, write_probs(tmp_path / "a.csv"))
    before = labels_now(project)
    _, report = select(project, "clean_share", run_ids=[run_id], options={"keep": 1.0})
    assert report.accepted == 32
    found = undo(project, report.batch)
    assert found.clips == 32 and labels_now(project) == before
    assert np.isin([labels[0] for labels, _ in before.values()], CLASSES).all()
