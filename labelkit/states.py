"""The states of a clip, and who may give it which: the one table, which the docs print.

A state says how far the labels of a clip are trusted, and by whom. A machine moves clips between
:data:`MACHINE_STATES`; into the others only people bring them, and out of them too. The store
refuses batches of machines that do otherwise (``stores/append.py``), and two copies are merged by
the same rule (``labels/changes/merge.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

UNVERIFIED, VERIFIED, SELF_VERIFIED = "unverified", "verified", "self_verified"
RELABELED, REJECTED = "relabeled", "rejected"
STATES = (UNVERIFIED, VERIFIED, SELF_VERIFIED, RELABELED, REJECTED)
# What a training may learn from as from verified labels.
TRUSTED_STATES = (VERIFIED, RELABELED, SELF_VERIFIED)

REVIEW, CORRECTION, MACHINE = "a person, in Label Studio", "corrections", "a machine"
BY_HAND = "a person, by `label`"
IMPORT, UNDO = "an import of new clips", "an undo"
ACTORS = (REVIEW, CORRECTION, BY_HAND, MACHINE, IMPORT, UNDO)


@dataclass(frozen=True)
class StateChange:
    """That somebody may give a clip a state, and on what occasion, in words."""

    actor: str
    state: str
    when: str


STATE_CHANGES = (
    StateChange(REVIEW, UNVERIFIED, "only back, when the answer is taken back"),
    StateChange(REVIEW, SELF_VERIFIED, "only back, likewise"),
    StateChange(REVIEW, VERIFIED, "the answer is the labels the clip had"),
    StateChange(REVIEW, RELABELED, "the answer is other labels, or none"),
    StateChange(REVIEW, REJECTED, "no usable sound"),
    StateChange(CORRECTION, RELABELED, "yes, also with the same labels"),
    StateChange(CORRECTION, REJECTED, "`remove`"),
    StateChange(BY_HAND, VERIFIED, "the labels are those the clip had"),
    StateChange(BY_HAND, RELABELED, "they are others, or none"),
    StateChange(BY_HAND, REJECTED, "`--reject`"),
    StateChange(
        MACHINE, UNVERIFIED,
        "from `self_verified`, when a later round or rule no longer trusts it; with other labels, "
        "corrections `--by machine`",
    ),
    StateChange(
        MACHINE, SELF_VERIFIED,
        "from `unverified`: `verify`, `select`, or a recipe that chooses clips",
    ),
    StateChange(IMPORT, UNVERIFIED, "yes; the default"),
    StateChange(IMPORT, SELF_VERIFIED, "only where a file with states says so"),
    StateChange(IMPORT, VERIFIED, "where the file says so"),
    StateChange(IMPORT, RELABELED, "only where a file with states says so"),
    StateChange(IMPORT, REJECTED, "only where a file with states says so"),
    *(StateChange(UNDO, state, "gives it back") for state in STATES),
)  # fmt: skip
# A machine moves clips between these, and touches no others.
MACHINE_STATES = tuple(rule.state for rule in STATE_CHANGES if rule.actor == MACHINE)


def may_machine_change(before: str, after: str) -> bool:
    """Tell whether a machine may make of a clip in state ``before`` one in state ``after``.

    Example:
        >>> may_machine_change("unverified", "self_verified")
        True
        >>> may_machine_change("verified", "self_verified")
        False
    """
    return before in MACHINE_STATES and after in MACHINE_STATES
