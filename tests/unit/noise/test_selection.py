"""The selection rules of the four published systems, on twelve clips worked out by hand."""

from functools import partial

import numpy as np
import pytest

from labelkit import registry
from labelkit.config import read_recipe
from labelkit.errors import InvalidInput
from labelkit.noise.selection import (
    select_confident,
    select_listed,
    select_lwlrap,
    select_small_loss,
)

# Classes A, B, C. Behind each clip: the rank of its label, and whether its model agrees.
LABELS = np.array([
    [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0],
    [0, 1, 0], [0, 1, 0], [0, 1, 0],
    [0, 0, 1], [0, 0, 1], [0, 0, 1],
    [1, 0, 1],
])  # fmt: skip
PROBS = np.array([
    [0.97, 0.02, 0.01],  # 0  A first, mean log-loss 0.020
    [0.96, 0.03, 0.01],  # 1  A first, 0.027
    [0.60, 0.30, 0.10],  # 2  A first, 0.324
    [0.30, 0.60, 0.10],  # 3  A second, 0.742
    [0.10, 0.30, 0.60],  # 4  A third, 1.192
    [0.02, 0.98, 0.00],  # 5  B first, 0.01347
    [0.05, 0.90, 0.05],  # 6  B first, 0.069
    [0.50, 0.40, 0.10],  # 7  B second, 0.572
    [0.01, 0.01, 0.98],  # 8  C first, 0.01343
    [0.20, 0.50, 0.30],  # 9  C second, 0.707
    [0.45, 0.35, 0.20],  # 10 C third, 0.879
    [0.50, 0.10, 0.40],  # 11 A first and C second, two labels
])  # fmt: skip
# A second model; ranks of the label 1, 3, 2, 2, 1 | 1, 1, 3 | 1, 2, 1 | 1 and 3.
SECOND = np.array([
    [0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.3, 0.6, 0.1], [0.3, 0.1, 0.6], [0.8, 0.1, 0.1],
    [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.6, 0.1, 0.3],
    [0.1, 0.2, 0.7], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6],
    [0.6, 0.3, 0.1],
])  # fmt: skip
FOLDS = np.arange(12) % 2


def kept(mask):
    return set(np.flatnonzero(mask).tolist())


def options(recipe, stage, table, **changes):
    """What a published recipe hands to its rule, with a few numbers made small."""
    found = dict(getattr(recipe.stages[stage], table)) | changes
    return {key: value for key, value in found.items() if key not in ("rule", "judges")}


@pytest.mark.parametrize(
    ("flavour", "expected"),
    [
        # Agreeing and above 0.95: 0, 1, 5, 8.
        ("as_written", {0, 1, 5, 8}),
        # Agreeing, the best two a class: of A 0 and 1, so neither 2 nor 11 finds room.
        ("as_coded", {0, 1, 5, 6, 8}),
    ],
)
def test_dorfer(flavour, expected):
    rule = read_recipe("dorfer", ["verify.per_class=2"], flavour=flavour).verify
    mask = select_confident(LABELS, PROBS, threshold=rule.threshold, per_class=rule.per_class)
    assert kept(mask) == expected


@pytest.mark.parametrize("flavour", ["as_written", "as_coded"])
def test_bouteillon_step_3(flavour):
    """Means of both ranks' inverses: 1, .58, .71, .5, .58 | 1, 1, .41 | 1, .5, .58 | .91.

    Only 7 falls below a half. With two per fold and label, fold 0 has 0, 2, 4 of A and
    leaves out 4; fold 1 has 11, 1, 3 of A and leaves out 3; C has 8, 10 and 11, 9.
    """
    recipe = read_recipe("bouteillon", flavour=flavour)
    every = options(recipe, "model_3", "select", per_class=0)
    assert kept(select_lwlrap(LABELS, PROBS, SECOND, **every)) == set(range(12)) - {7}
    two = options(recipe, "model_3", "select", per_class=2)
    mask = select_lwlrap(LABELS, PROBS, SECOND, folds=FOLDS, **two)
    assert kept(mask) == set(range(12)) - {3, 4, 7}
    assert options(recipe, "model_3", "select")["per_class"] == 5


@pytest.mark.parametrize("flavour", ["as_written", "as_coded"])
def test_bouteillon_step_4(flavour):
    recipe = read_recipe("bouteillon", flavour=flavour)
    mask = select_lwlrap(LABELS, PROBS, **options(recipe, "model_4", "select"))
    assert kept(mask) == {0, 1, 2, 5, 6, 8, 11}


@pytest.mark.parametrize(
    ("flavour", "cap", "expected"),
    [
        # The six of smallest loss with one label: 8, 5, 0, 1, 6, 2.
        ("as_written", None, {0, 1, 2, 5, 6, 8}),
        # At most two a class of them: 2 is the third of A.
        ("as_coded", 2, {0, 1, 5, 6, 8}),
    ],
)
def test_ninth(flavour, cap, expected):
    changes = {"n": 6} | ({} if cap is None else {"per_class": cap})
    recipe = read_recipe("ninth", flavour=flavour)
    chosen = options(recipe, "stage_1", "select", **changes)
    assert kept(select_small_loss(LABELS, PROBS, **chosen)) == expected


def test_argus():
    """Lwlrap 1 is kept; the code also leaves out the lowest, here a third and below."""
    for flavour in ("as_written", "as_coded"):
        recipe = read_recipe("argus", flavour=flavour)
        mask = select_lwlrap(LABELS, PROBS, **options(recipe, "train", "select"))
        assert kept(mask) == {0, 1, 2, 5, 6, 8, 11}
    removed = options(recipe, "train", "remove", at_most=0.34)
    assert kept(select_lwlrap(LABELS, PROBS, **removed)) == {4, 10}
    assert not read_recipe("argus", flavour="as_written").stages["train"].remove


def test_ranks_that_pass_bouteillons_mean():
    """(1,1) (1,2) (1,3) (1,4) (2,2) pass a half, (1,5) and (2,3) do not."""
    pairs = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (1, 5), (2, 3)]
    labels = np.zeros((7, 6))
    labels[:, 0] = 1

    def ranked(rank):
        probs = np.linspace(0.9, 0.1, 6)
        return np.concatenate([[probs[rank - 1]], np.delete(probs, rank - 1)])

    first, second = (np.array([ranked(pair[k]) for pair in pairs]) for k in (0, 1))
    mask = select_lwlrap(labels, first, second, at_least=0.5)
    assert mask.tolist() == [True] * 5 + [False] * 2


def test_dorfers_oracles():
    labels = np.zeros((45, 3))
    labels[:, 1] = 1
    probs = np.tile([0.1, 0.8, 0.1], (45, 1))
    assert select_confident(labels, probs, threshold=0, per_class=40).sum() == 40
    weak, label = np.array([[0.3, 0.25, 0.23, 0.22]]), np.array([[1, 0, 0, 0]])
    coded, written = (read_recipe("dorfer", flavour=f).verify for f in ("as_coded", "as_written"))
    for rule, expected in ((coded, True), (written, False)):
        mask = select_confident(label, weak, threshold=rule.threshold, per_class=rule.per_class)
        assert mask.tolist() == [expected]


def test_ninths_cap_of_fifty():
    labels = np.zeros((70, 2))
    labels[:60, 0] = labels[60:, 1] = 1
    probs = np.where(labels > 0, 0.9, 0.1)
    mask = select_small_loss(labels, probs, n=70, per_class=50)
    assert mask[:60].sum() == 50 and mask[60:].all()
    assert select_small_loss(labels, probs, n=60, per_class=50).sum() == 50


@pytest.mark.parametrize("name", registry.names("selection"))
def test_every_rule_takes_several_judges(name):
    rule = registry.resolve("selection", name)
    if name == "listed":
        rule = partial(rule, listed=FOLDS > 0)
    assert (rule(LABELS, PROBS, PROBS) == rule(LABELS, PROBS)).all()


SELECTIONS = {
    "clean_share": {"keep": 0.5, "per_class": 12},
    "complete": {"percentile": 90.0, "per_class": 12},
    "confident": {"threshold": 0.3, "per_class": 12},
    "listed": {"per_class": 12},
    "lwlrap": {"at_least": 0.5, "per_class": 12},
    "mixture": {"per_class": 12},
    "rank_mean": {"keep": 0.5, "per_class": 12},
    "small_loss": {"n": 60, "per_class": 12},
}


def test_every_selection_is_under_contract():
    assert set(SELECTIONS) == set(registry.names("selection"))


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections_follow_their_clips_and_beat_chance(name):
    rule, chosen = registry.resolve("selection", name), SELECTIONS[name]
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 8, 200)
    given = np.where(rng.random(200) < 0.4, rng.integers(0, 8, 200), truth)
    labels = np.eye(8)[given]
    probs = np.eye(8)[truth] * 2 + rng.standard_normal((200, 8))
    probs = np.exp(probs) / np.exp(probs).sum(axis=1, keepdims=True)
    # Somebody who heard the clips, and misheard one in ten.
    ears = (given == truth) ^ (rng.random(200) < 0.1)
    lists = {"listed": ears} if name == "listed" else {}
    mask = rule(labels, probs, **chosen, **lists)
    order = rng.permutation(200)
    moved = {key: values[order] for key, values in lists.items()}
    assert (rule(labels[order], probs[order], **chosen, **moved) == mask[order]).all()
    assert 20 < mask.sum() < 160
    assert (given == truth)[mask].mean() > (given == truth).mean() + 0.2
    assert labels[mask].sum(axis=0).max() <= chosen["per_class"]
    few = {key: values[:3] for key, values in lists.items()}
    nothing = rule(np.zeros((3, 8)), probs[:3], **chosen, **few)
    assert not nothing.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: select_lwlrap(LABELS), "at least one model"),
        (lambda: select_small_loss(LABELS), "at least one model"),
        (lambda: select_confident(LABELS), "at least one model"),
        (lambda: select_lwlrap(LABELS, PROBS, folds=FOLDS[:3]), "folds has 3 clips, labels 12"),
        (
            lambda: select_lwlrap(LABELS, PROBS, at_least=0.6, at_most=0.5),
            "at_least 0.6 must not be above",
        ),
        (lambda: select_small_loss(LABELS, PROBS, n=-1), "n -1 and per_class 50 must not be"),
        (lambda: select_small_loss(LABELS, PROBS[:5]), "shape"),
        (lambda: select_lwlrap(LABELS, np.full((12, 3), np.nan)), "NaN"),
        (lambda: select_listed(LABELS, PROBS), "takes its clips from a list, and none is given"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
