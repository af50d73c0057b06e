"""The states of a clip, and who may give it which: the one table that code and docs read.

A state says how far the labels of a clip are trusted, and by whom. In :data:`MACHINE_STATES` a
model may judge it; into the others only people bring it, and out of them too. The store refuses
what this table does not know of a machine (``stores/append.py``), and two copies are merged by it
(``labels/changes/merge.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

UNVERIFIED, VERIFIED, SELF_VERIFIED = "unverified", "verified", "self_verified"
RELABELED, REJECTED = "relabeled", "rejected"
STATES = (UNVERIFIED, VERIFIED, SELF_VERIFIED, RELABELED, REJECTED)

REVIEW, CORRECTION, MACHINE = "a person, in Label Studio", "corrections", "a machine"
IMPORT, UNDO = "an import of new clips", "an undo"
ACTORS = (REVIEW, CORRECTION, MACHINE, IMPORT, UNDO)


@dataclass(frozen=True)
class Rule:
    """Who may give a clip a state, and on what occasion, in words."""

    actor: str
    state: str
    when: str


RULES = (
    Rule(REVIEW, UNVERIFIED, "no; but a clip gets it back when the answer is taken back"),
    Rule(REVIEW, SELF_VERIFIED, "no; gets it back, likewise"),
    Rule(REVIEW, VERIFIED, "the answer is the labels the clip had"),
    Rule(REVIEW, RELABELED, "the answer is other labels, or none"),
    Rule(REVIEW, REJECTED, "no usable sound"),
    Rule(CORRECTION, RELABELED, "yes, also with the same labels"),
    Rule(CORRECTION, REJECTED, "`remove`"),
    Rule(
        MACHINE, UNVERIFIED,
        "from `self_verified`, when a later round or rule no longer trusts it",
    ),
    Rule(
        MACHINE, SELF_VERIFIED,
        "from `unverified`: `verify`, `select`, or a recipe that chooses clips",
    ),
    Rule(IMPORT, UNVERIFIED, "yes; the default"),
    Rule(IMPORT, SELF_VERIFIED, "only where a file with states says so"),
    Rule(IMPORT, VERIFIED, "where the file says so"),
    Rule(IMPORT, RELABELED, "only where a file with states says so"),
    Rule(IMPORT, REJECTED, "only where a file with states says so"),
    *(Rule(UNDO, state, "gives it back") for state in STATES),
)  # fmt: skip

# A machine moves clips between these, and touches no others.
MACHINE_STATES = tuple(rule.state for rule in RULES if rule.actor == MACHINE)
# What a training may learn from as from verified labels.
TRUSTED_STATES = (VERIFIED, RELABELED, SELF_VERIFIED)


def may_machine_change(before: str, after: str) -> bool:
    """Tell whether a machine may make of a clip in state ``before`` one in state ``after``.

    Example:
        >>> may_machine_change("unverified", "self_verified")
        True
        >>> may_machine_change("verified", "self_verified")
        False
    """
    return before in MACHINE_STATES and after in MACHINE_STATES
