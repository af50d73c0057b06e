"""Folds: balanced, grouped, frozen."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit.errors import InvalidInput
from labelkit.folds import describe_groups, make_folds


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_groups_never_cross_folds(data):
    n_clips = data.draw(st.integers(4, 60))
    n_classes = data.draw(st.integers(1, 5))
    groups = data.draw(
        st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=n_clips, max_size=n_clips)
    )
    labels = np.array(
        data.draw(
            st.lists(
                st.lists(st.booleans(), min_size=n_classes, max_size=n_classes),
                min_size=n_clips, max_size=n_clips,
            )
        )
    )  # fmt: skip
    verified = np.array(data.draw(st.lists(st.booleans(), min_size=n_clips, max_size=n_clips)))
    n = data.draw(st.integers(2, 5))
    n_groups = len({g for g in groups if g is not None}) + groups.count(None)
    if n_groups < n:
        with pytest.raises(InvalidInput, match=r"groups? cannot fill"):
            make_folds(labels, n=n, seed=0, verified=verified, groups=groups)
        return
    folds = make_folds(
        labels, n=n, seed=data.draw(st.integers(0, 9)), verified=verified, groups=groups
    )
    assert set(folds.tolist()) <= set(range(n))
    for group in set(groups) - {None}:
        assert len({f for f, g in zip(folds.tolist(), groups, strict=True) if g == group}) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_single_labels_without_groups_differ_by_one_clip(seed, n):
    rng = np.random.default_rng(seed)
    labels = np.eye(4)[rng.integers(0, 4, 120)]
    verified = rng.random(120) < 0.4
    folds = make_folds(labels, n=n, seed=seed, verified=verified)
    for part in (verified, ~verified, np.ones(120, bool)):
        counts = np.array([labels[part & (folds == f)].sum(axis=0) for f in range(n)])
        assert np.ptp(counts, axis=0).max() <= 1


def test_several_labels_are_balanced():
    rng = np.random.default_rng(0)
    labels = rng.random((500, 8)) < rng.uniform(0.02, 0.4, 8)
    folds = make_folds(labels, n=5, seed=0)
    counts = np.array([labels[folds == f].sum(axis=0) for f in range(5)])
    shares = counts / labels.sum(axis=0)
    naive = np.arange(500) % 5
    naive_counts = np.array([labels[naive == f].sum(axis=0) for f in range(5)])
    assert np.abs(shares - 0.2).max() < 0.06
    assert counts.std(axis=0).sum() < naive_counts.std(axis=0).sum() / 3


def test_what_stands_stays_and_groups_follow():
    labels = np.eye(2)[np.arange(20) % 2]
    groups = [k // 2 for k in range(20)]
    fixed = np.full(20, -1)
    fixed[[0, 4]] = [2, 1]
    folds = make_folds(labels, n=3, seed=1, groups=groups, fixed=fixed)
    assert folds[[0, 1, 4, 5]].tolist() == [2, 2, 1, 1]
    fixed[1] = 0
    with pytest.raises(InvalidInput, match="a group must lie in one fold"):
        make_folds(labels, n=3, seed=1, groups=groups, fixed=fixed)


def test_a_class_of_one_clip_lies_in_one_fold():
    labels = np.eye(3)[[0] * 6 + [1] * 6 + [2]]
    folds = make_folds(labels, n=3, seed=0)
    assert np.bincount(folds[:6]).tolist() == np.bincount(folds[6:12]).tolist() == [2, 2, 2]


def test_same_seed_same_folds():
    labels = np.eye(3)[np.arange(60) % 3]
    first, again, other = (make_folds(labels, n=4, seed=s) for s in (5, 5, 6))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 1}, "at least 2"), ({"n": 2, "verified": [True]}, "verified has 1")],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInput, match=message):
        make_folds(np.eye(4), seed=0, **options)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_real_metadata_within_one_clip(shared_data, seed):
    path = shared_data / "fsdkaggle2018" / "train_post_competition.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    labels = np.eye(len(classes))[[classes.index(row["label"]) for row in rows]]
    verified = np.array([row["manually_verified"] == "1" for row in rows])
    folds = make_folds(labels, n=4, seed=seed, verified=verified)
    for part in (verified, ~verified, np.ones(len(rows), bool)):
        counts = np.array([labels[part & (folds == f)].sum(axis=0) for f in range(4)])
        assert np.ptp(counts, axis=0).max() <= 1


def one_hot(classes, n):
    return np.eye(n)[np.asarray(classes)]


SPEAKERS = [f"spk{n % 25}" for n in range(500)]
# Groups, classes of the clips, number of classes, folds, and what is told.
GROUPS = {
    "speakers": (SPEAKERS, np.arange(500) // 50, 10, 5, "hold many classes each"),
    "speakers at import": (SPEAKERS, np.arange(500) // 50, 10, None, "hold many classes each"),
    "sites of one class each": ([n // 50 for n in range(500)], np.arange(500) // 50, 10, 3, None),
    "two devices": ([n % 2 for n in range(60)], np.arange(60) // 20, 3, None, "2 groups of 30"),
    "most without": (
        [None] * 300 + SPEAKERS[:200], np.arange(500) // 20 % 10, 10, 5, "25 groups of 8",
    ),
    "recordings": ([n // 3 for n in range(300)], np.arange(300) // 30, 10, 5, None),
    "recordings of mixed classes": ([n // 4 for n in range(300)], np.arange(300) % 10, 10, 5, None),
    "few": ([n // 8 for n in range(80)], np.arange(80) // 40, 2, 5, "10 groups for 5"),
    "few, nobody asks": ([n // 8 for n in range(80)], np.arange(80) // 40, 2, None, None),
    "fewer than folds": ([n % 2 for n in range(8)], np.arange(8) % 2, 2, 5, None),
    "none": (None, np.arange(80) % 8, 8, 5, None),
    "nobody's": ([None, float("nan")] * 40, np.arange(80) % 8, 8, 5, None),
    "of two classes": ([n % 4 for n in range(80)], np.arange(80) // 4 % 2, 2, 5, "4 groups of 20"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "classes", "n_classes", "n", "told"), GROUPS.values(), ids=GROUPS
)
def test_groups_that_look_like_domains_are_told(groups, classes, n_classes, n, told):
    found = describe_groups(groups, one_hot(classes, n_classes), n)
    assert (found is None) if told is None else (found and told in found), found


@pytest.mark.parametrize(
    ("groups", "n", "why"),
    [
        (["a"] * 8, 2, "1 group cannot fill 2 folds; more clips are needed, or fewer folds; wher"),
        (["a", "b"] * 4, 3, "2 groups cannot fill 3 folds; .*--domain-column"),
        (None, 9, "8 groups cannot fill 9 folds; more clips are needed, or fewer folds$"),
    ],
)
def test_too_few_groups_are_refused_with_what_may_be_meant(groups, n, why):
    with pytest.raises(InvalidInput, match=why):
        make_folds(one_hot([0, 1] * 4, 2), n=n, seed=0, groups=groups)
