"""Which clips a stage may draw, what a person's doubt does, and windows on disk."""

from pathlib import Path

import numpy as np
import pytest

from labelkit.config import StageSpec, create_spec, read_recipe
from labelkit.errors import InvalidInput, StoreError
from labelkit.recordings.features import read_variant
from labelkit.records import Batch, Frames, Verdict, Windows
from labelkit.runs.dataset import read_dataset
from labelkit.runs.train import train
from labelkit.stores.windows import WindowStore
from labelkit.training.crossfit import CrossFit, Decided
from tests.support.projects import TINY

# Eight clips of fold 1 and two of fold 0, which is judged. By number:
# 0, 1 curated; 2, 3 noisy once and confirmed by people; 4, 5 selected; 6 removed; 7 noisy.
NOISY = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1], bool)
ONCE = np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 1], bool)
FOLDS = np.array([1] * 8 + [0, 0])
CHOICE = Decided(np.isin(np.arange(10), [4, 5]), np.arange(10) == 6)


def examples(choice=CHOICE, **settings):
    places = np.arange(10)
    cross = CrossFit(
        folder=Path("run"), recipe=read_recipe("quick"), frames=Frames(Path("f"), places, places),
        labels=np.eye(2)[places % 2], folds=FOLDS, noisy=NOISY, once_noisy=ONCE,
        paths=[str(k) for k in places], classes=["a", "b"], head="softmax", seed=0,
    )  # fmt: skip
    found = cross._examples(create_spec(StageSpec, settings), "s", 0, choice)
    return {pool: found.clips[found.pools == pool].tolist() for pool in range(3)}


@pytest.mark.parametrize(
    ("settings", "noisy", "selected", "curated"),
    [
        ({"clips": "all"}, [7], [2, 3, 4, 5], [0, 1]),
        ({"clips": "all", "pools": {"selected_stay_noisy": True}}, [4, 5, 7], [2, 3, 4, 5], [0, 1]),
        ({"clips": "trusted"}, [], [2, 3, 4, 5], [0, 1]),
        ({"clips": "curated"}, [], [2, 3], [0, 1]),
        ({"clips": "noisy"}, [4, 5, 7], [], []),
    ],
)
def test_pools_of_a_stage(settings, noisy, selected, curated):
    assert examples(**settings) == {0: noisy, 1: selected, 2: curated}


def test_a_stage_may_be_limited_to_some_clips():
    only = np.isin(np.arange(10), [0, 4, 7, 8])
    found = examples(Decided(CHOICE.selected, CHOICE.removed, only), clips="trusted")
    assert found == {0: [], 1: [4], 2: [0]}
    with pytest.raises(InvalidInput, match="stage s, fold 0: 0 clips to learn from"):
        examples(Decided(CHOICE.selected, CHOICE.removed, np.arange(10) == 8))


def test_a_class_a_person_is_unsure_of_does_not_count(demo_project, tiny_recipe):
    data = read_dataset(demo_project, tiny_recipe, workers=1)
    assert data.mask() is None
    clip_id = int(data.ids[7])
    with demo_project.store.write() as session:
        for key, verdict, by_person in (
            ("a", "unsure", True), ("b", "absent", False), ("c", "present", True),
            ("d", "unsure", True),
        ):  # fmt: skip
            # The machine's word comes between, on another class.
            class_id = 2 if by_person else 3
            session.append(
                Batch(
                    key=key, kind="review", actor="ann", by_person=by_person,
                    verdicts=[Verdict(clip_id=clip_id, class_id=class_id, verdict=verdict,
                                      rule="ear")],
                )
            )  # fmt: skip
    mask = read_dataset(demo_project, tiny_recipe, workers=1).mask()
    assert np.argwhere(mask == 0).tolist() == [[7, 2]]


@pytest.mark.slow
def test_offline_variants_are_trained_on(demo_project):
    recipe = read_recipe("quick", [*TINY, "pretrain.variants=speed:0.9,semitones:2"])
    data = read_dataset(demo_project, recipe, workers=1)
    assert sorted(data.learner.variants) == ["semitones:2", "speed:0.9"]
    slow, base = data.learner.variants["speed:0.9"], data.learner.frames
    assert slow.path != base.path
    ratio = slow.lengths.sum() / base.lengths.sum()
    assert 1.05 < ratio < 1.15
    plain = train(demo_project, read_recipe("quick", TINY), workers=1)
    varied = train(demo_project, recipe, workers=1)
    assert varied["run_id"] != plain["run_id"]
    assert varied["verified_loss"] != plain["verified_loss"]
    with pytest.raises(InvalidInput, match="no variant 'louder:3'; write speed:FACTOR"):
        read_variant(recipe.features, "louder:3")


WINDOWS = Windows(
    clip_ids=np.array([3, 3, 8]), starts_s=np.array([0.0, 1.5, -0.2]),
    ends_s=np.array([2.0, 3.5, 1.8]), probs=np.eye(3, dtype=np.float32),
)  # fmt: skip


def test_windows_come_back_as_they_were(tmp_path):
    store = WindowStore(tmp_path)
    store.write("run/a/fold-0", WINDOWS)
    found = store.read("run/a/fold-0")
    for name in ("clip_ids", "starts_s", "ends_s", "probs"):
        np.testing.assert_array_equal(getattr(found, name), getattr(WINDOWS, name))
    assert [path.name for path in tmp_path.rglob("*.partial")] == []


def test_missing_and_damaged_windows_are_named(tmp_path):
    store = WindowStore(tmp_path)
    with pytest.raises(StoreError, match="no windows of run 'run/b'"):
        store.read("run/b")
    store.write("run/b", WINDOWS)
    path = store.path("run/b")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="is damaged"):
        store.read("run/b")


def test_windows_of_self_verification_are_kept_too(verified_project):
    project, _, summary, _ = verified_project
    with project.store.read() as session:
        judges = session.rows(
            "select distinct p.run_id from predictions p join runs r on r.run_id = p.run_id "
            "where r.kind = 'fold'"
        )
        starts = dict(session.rows("select clip_id, duration_s from clips"))
    assert len(judges) > 9
    for (judge,) in judges:
        windows = project.windows.read(judge)
        lasts = np.array([starts[int(clip)] for clip in windows.clip_ids])
        assert (windows.ends_s <= lasts + 0.1).all() and (windows.starts_s >= 0).all()
        np.testing.assert_allclose(windows.probs.sum(axis=1), 1, atol=1e-5)
    assert summary["run_id"]
