"""One clip, one suggestion: lists, the view, the queue and the tasks sent say the same of it."""

import itertools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from labelkit.cleaning.external import import_probs
from labelkit.cleaning.score import score, score_given
from labelkit.config import ReviewSpec, read_recipe
from labelkit.errors import InvalidInput
from labelkit.label_studio.audio import Share
from labelkit.project import create_project
from labelkit.records import Batch, Clip, LabelEvent
from labelkit.review.plan import Wanted
from labelkit.review.queue import Choice, read_queue
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train

CLASSES = ["Bird", "Car", "Dog"]
# Enough that some rejections leave more clips than neighbours are asked of.
N, HELD_OUT = 16, 2
PATHS = [f"{k:02d}.wav" for k in range(N + HELD_OUT)]
STANDARD = ("fusion", "lwlrap", "self_confidence")


def make_project(root, rng, *, several):
    """Clips with random labels, one or several each, without recordings."""
    (root / "audio").mkdir(parents=True)
    project, _ = create_project(root, root / "audio")
    clips = []
    for k, path in enumerate(PATHS):
        # The first three are verified, of a class each, so that every fold can learn all.
        names = {CLASSES[k % 3]}
        if several and k >= 3:
            names = {name for name in CLASSES if rng.random() < 0.5}
        clips.append(
            Clip(path=path, labels=tuple(sorted(names)), subset="train" if k < N else "test",
                 state="verified" if k < 3 else "unverified")
        )  # fmt: skip
    append(project, "clips", classes=CLASSES, clips=clips)
    freeze_folds(project, n=2)
    vectors = rng.standard_normal((len(PATHS), 4))
    np.savez(root / "v.npz", paths=PATHS, embeddings=vectors)
    return project, read_recipe("probe", [f"embedding.embedder=vectors:{root / 'v.npz'}"])


def append(project, key, **values):
    with project.store.write() as session:
        session.append(Batch(key=key, kind="t", actor="ana", by_person=True, **values))


def judge(project, rng, number):
    """Bring in the probabilities of somebody else's model."""
    file = project.root / f"{number}.npz"
    probs = rng.dirichlet(np.ones(3), len(PATHS)).astype(np.float32)
    np.savez(file, paths=PATHS, classes=CLASSES, probs=probs)
    return import_probs(project, file)


def relabel(project, rng, number):
    """A person gives some clip other labels, or opens it again with others."""
    clip_id, state = int(rng.integers(3, N)), rng.choice(["relabeled", "rejected", "unverified"])
    labels = sorted(rng.choice(3, rng.integers(1, 3), replace=False).tolist())
    event = LabelEvent(clip_id=clip_id, state=str(state), labels=labels, source="t")
    append(project, f"relabel {number}", events=[event])


def view(project):
    """Rows of ``review_queue`` by path."""
    columns = "path, labels, fusion, lwlrap, self_confidence, suggested, reason"
    with project.store.read() as session:
        rows = session.rows(f"select {columns} from review_queue")
        top = session.rows(f"select {columns} from review_top(1000)")
    assert rows == top
    return {row[0]: dict(zip(columns.split(", "), row, strict=True)) for row in rows}


def check(project, listed, fresh):
    """Compare what was just listed with the view, the queue and the tasks of every metric.

    Args:
        project: The project.
        listed: What ``score`` gave, just made.
        fresh: The scores in them.
    """
    seen = view(project)
    listed = {clip.path: clip for clip in listed}
    for path, row in seen.items():
        if path in listed:
            assert row["suggested"] == listed[path].suggested
            assert row["reason"] == listed[path].reason
            for metric in set(fresh) & set(STANDARD):
                assert row[metric] == pytest.approx(listed[path].scores[metric], abs=1e-4)
    with project.store.read() as session:
        metrics = [
            m for (m,) in session.rows("select distinct metric from scores where class_id = -1")
        ]
    for item in read_queue(project, Choice(where="true")).items:
        if row := seen.get(item.path):
            doubt = next(value for metric in STANDARD if (value := row[metric]) is not None)
            assert item.score == pytest.approx(doubt, abs=1e-6)
            assert "More doubtful than" in item.reason
    sent = [item.path for item in read_queue(project, Choice(where="true")).items]
    assert [path for path in sent if path in seen] == list(seen)
    if "fusion" in fresh and "self_confidence" in fresh:
        assert [clip.path for clip in listed.values() if clip.path in seen] == [
            path for path in seen if path in listed
        ]
    for metric in metrics:
        try:
            queue = read_queue(project, Choice(lowest=(metric, 1000)))
        except InvalidInput as error:
            # A fusion older than the newest training is none, for all of them.
            assert metric == "fusion" and "of the newest model" in str(error)
            assert all(row["fusion"] is None for row in seen.values())
            continue
        if metric == "fusion":
            # An older fusion is an order of its own.
            fused = [path for path, row in seen.items() if row["fusion"] is not None]
            assert [item.path for item in queue.items if item.path in fused] == fused
        sent = Wanted(queue, ReviewSpec(), Share(mode="url", base_url="http://x"))
        for item in queue.items:
            task, prediction = sent.task(item, "a"), sent.prediction(item)
            assert set(task["data"]["suggested"].split(", ")) == set(item.suggested)
            assert task["data"]["reason"] == item.reason
            [ticked] = [
                r["value"]["choices"] for r in prediction["result"] if "choices" in r["value"]
            ]
            assert ticked == list(item.suggested)
            assert prediction["score"] == pytest.approx(item.score)
            if item.path in seen:
                row = seen[item.path]
                assert item.suggested[0] == row["suggested"]
                if row["reason"] is None:
                    assert item.reason.startswith("The label has changed")
                else:
                    assert item.reason.startswith(row["reason"])
                if metric in STANDARD and row[metric] is not None:
                    assert item.score == pytest.approx(row[metric])
                if path_listed := listed.get(item.path):
                    if metric in fresh:
                        assert item.score == pytest.approx(path_listed.scores[metric], abs=1e-4)


def test_scores_of_single_labels_choose_clips_by_their_lowest(tmp_path):
    rng = np.random.default_rng(0)
    project, recipe = make_project(tmp_path / "p", rng, several=True)
    judge(project, rng, 0)
    with pytest.raises(InvalidInput, match=r"labelkit score --pairs self_confidence$"):
        read_queue(project, Choice(lowest=("pair_self_confidence", 3)))
    with pytest.raises(InvalidInput, match=r"make it with: labelkit missing$"):
        read_queue(project, Choice(lowest=("missing", 3)))
    run_id = judge(project, rng, 1)
    listed = score_given(project, lowest=1000, run_id=run_id, probe=recipe, workers=1)
    lowest = {}
    for label in listed:
        lowest.setdefault(label.path, label.score)
    queue = read_queue(project, Choice(lowest=("pair_self_confidence", 3)))
    found = {item.path: item.score for item in queue.items if item.clip_id in queue.chosen}
    wanted = [path for path in lowest if int(path[:2]) >= 3][:3]
    assert sorted(found) == sorted(wanted)
    for path, value in found.items():
        assert value == pytest.approx(lowest[path], abs=1e-4)
    assert not any("may be missing" in item.reason for item in queue.items)


def test_a_clip_without_the_best_score_keeps_its_next_one(tmp_path):
    """One that a training left out still has a fusion, all others have lost theirs."""
    rng = np.random.default_rng(3)
    project, recipe = make_project(tmp_path / "p", rng, several=False)
    run_id = judge(project, rng, 0)
    score(project, run_id=run_id, methods=("fusion", "lwlrap"), probe=recipe, workers=1)
    left_out = LabelEvent(clip_id=5, state="rejected", labels=[], source="t")
    append(project, "reject", events=[left_out])
    train(project, recipe, seed=1, workers=1)
    append(project, "reopen", events=[LabelEvent(clip_id=5, state="unverified", labels=[2],
                                                 source="t")])  # fmt: skip
    seen = view(project)
    assert [path for path, row in seen.items() if row["fusion"] is not None] == ["05.wav"]
    check(project, [], ())
    (tmp_path / "list.txt").write_text("\n".join(PATHS[3:N]))
    items = read_queue(project, Choice(clips=tmp_path / "list.txt")).items
    assert {item.path: item.score for item in items if item.path != "05.wav"} == pytest.approx(
        {path: seen[path]["lwlrap"] for path in PATHS[3:N] if path != "05.wav"}
    )
    assert len({item.score for item in items}) > 2


STEPS = st.lists(
    st.sampled_from(["judge", "train", "score", "score", "fusion", "pairs", "relabel"]),
    min_size=1, max_size=4,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 2**16), several=st.booleans(), steps=STEPS)
def test_everything_that_shows_a_suggestion_shows_the_same(seed, several, steps):
    rng = np.random.default_rng(seed)
    root = Path(tempfile.mkdtemp())
    try:
        project, recipe = make_project(root / "p", rng, several=several)
        number, runs = itertools.count(), []
        for step in ["judge", *steps, "score"]:
            if step == "judge":
                runs.append(judge(project, rng, next(number)))
            elif step == "train":
                runs.append(train(project, recipe, seed=next(number), workers=1)["run_id"])
                check(project, [], ())
            elif step == "relabel":
                relabel(project, rng, next(number))
                check(project, [], ())
            else:
                options = {"run_id": str(rng.choice(runs)), "probe": recipe, "workers": 1}
                if step == "pairs":
                    listed = score_given(project, lowest=1000, **options)
                    check(project, listed, ())
                    continue
                methods = ("fusion", "self_confidence")
                if step == "score":
                    methods = tuple(
                        rng.permutation(["lwlrap", "self_confidence", "typicality"])[:2]
                    )
                check(project, score(project, methods=methods, lowest=1000, **options), methods)
    finally:
        shutil.rmtree(root)
