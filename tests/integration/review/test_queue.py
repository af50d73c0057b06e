"""Which clips go to people, in what order, and what is said of each; no server is asked."""

import numpy as np
import pytest

from labelkit.cleaning.external import import_probs
from labelkit.cleaning.missing import find_missing_labels
from labelkit.errors import InvalidInput
from labelkit.review.queue import NO_MODEL, UNKNOWN_SCORE, Choice, explain_dispute, read_queue
from tests.support.commands import call, rows
from tests.support.labelled import PATHS, write_probs
from tests.support.projects import copy_project


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_project(labelled, tmp_path / "p")


def test_labels_that_may_be_missing(project, tmp_path):
    with pytest.raises(InvalidInput, match="make it with: labelkit missing, with a lower"):
        read_queue(project, Choice(missing=3))
    run_id = import_probs(project, write_probs(tmp_path / "a.csv"))
    proposed, _ = find_missing_labels(project, run_id=run_id, percentile=60, most=999)
    queue = read_queue(project, Choice(missing=3))
    assert queue.model_version.startswith("missing ") and len(queue.items) == 3
    open_to = {path for (path,) in rows(
        project, "select path from labels_now where state in ('unverified', 'self_verified') "
        "and subset = 'train'")}  # fmt: skip
    wanted = {}
    for label in proposed:
        if label.path in open_to:
            wanted.setdefault(label.path, []).append(label)
    first = sorted(wanted, key=lambda path: min(one.score for one in wanted[path]))[:3]
    assert {item.path for item in queue.items} == set(first)
    for item in queue.items:
        new = [label.suggested for label in wanted[item.path]]
        # What is ticked is what the clip has, and what may be missing; the reason names these.
        assert set(item.suggested) == {*item.given, *new}
        assert all(name in item.reason for name in new) and "may be missing" in item.reason
        assert "More doubtful" not in item.reason
        assert item.score == pytest.approx(min(one.score for one in wanted[item.path]), abs=1e-4)


def test_clips_nobody_judged(project, tmp_path):
    (tmp_path / "list.txt").write_text(f"{PATHS[9]}\nnowhere.wav\n\n{PATHS[9]}\n{PATHS[3]}\n")
    queue = read_queue(project, Choice(clips=tmp_path / "list.txt"))
    assert queue.model_version == NO_MODEL and queue.unknown == ["nowhere.wav"]
    assert {item.path for item in queue.items} == {PATHS[3], PATHS[9]}
    for item in queue.items:
        assert item.reason == "No model has judged this clip yet." and not item.suggested
        assert item.score == UNKNOWN_SCORE


def test_clips_people_differ_on_say_so_and_no_more(project):
    queue = read_queue(project, Choice(disagreements=True), disputed={9: "People differ: x."})
    [item] = queue.items
    assert item.disputed and item.reason == "People differ: x." and item.clip_id == 9


def test_a_dispute_names_each_answer_once():
    said = explain_dispute([["Dog"], ["Cat", "Dog"], ["Dog"], None, [], None])
    assert said == "People differ: Dog; or Cat, Dog; or no usable sound; or none of these."


def test_lowest_pairs_from_somebody_elses_file(project, tmp_path):
    file = write_probs(tmp_path / "a.csv")
    done = call(project, "score", "--probs", file, "--pairs", "self_confidence", "--json")
    assert done.exit_code == 0
    queue = read_queue(project, Choice(lowest=("pair_self_confidence", 4)))
    assert len(queue.chosen) == 4 and np.all(np.diff([item.score for item in queue.items]) >= 0)
