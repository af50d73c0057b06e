"""Whether an open label store is right: numbers, references, replay, people first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labelkit.datasets.oddities import tell_alike
from labelkit.maintenance.derived_state import (
    REPLAY,
    check_large_runs,
    check_scores,
    check_state,
    check_views,
)
from labelkit.maintenance.findings import (
    OK,
    PROBLEM,
    REPAIR,
    RESTORE,
    WARNING,
    Check,
    Finding,
    Rule,
    conclude,
    follow,
)
from labelkit.stores import checks
from labelkit.stores.damage import find_unreadable
from labelkit.stores.session import Session


def check_contents(con: Any) -> Iterator[Finding]:
    """Examine an open store of the newest version; every check says something.

    One that cannot be made costs a finding of its own, and no other.
    """
    session, unreadable = Session(con), find_unreadable(con)
    if unreadable:
        yield Finding("rows", PROBLEM, f"some cannot be read: {unreadable}", RESTORE)
        return
    yield Finding("rows", OK, "every row of every table can be read")
    large = list(check_large_runs(session))
    yield from large
    files_wrong = any(finding.state == PROBLEM for finding in large)
    views = list(_look("views", lambda _: check_views(con), session, RESTORE))
    yield from views
    # Where a view is to blame, making it anew is what helps.
    remedy = REPAIR if any(finding.state == PROBLEM for finding in views) else RESTORE
    for name, check in _CHECKS.items():
        if not (files_wrong and name in _OF_PREDICTIONS):
            examine = check if callable(check) else follow(name, check)
            yield from _look(name, examine, session, remedy)


def _look(name: str, check: Check, session: Session, remedy: str) -> Iterator[Finding]:
    import duckdb

    try:
        found = list(check(session))
    except duckdb.Error as error:
        what = f"this could not be examined: {str(error).splitlines()[0]}"
        yield Finding(name, PROBLEM, what, remedy)
        return
    # A check that finds nothing wrong says what it looked at.
    wrong = [finding for finding in found if finding.state != OK]
    yield from wrong or (finding for finding in found if finding.what)


def _numbers(session: Session) -> Iterator[Finding]:
    numberings = checks.read_numbering(session)
    for found in numberings:
        if not found.gapless:
            what = (
                f"{found.table}: {found.n_rows} rows with {found.n_distinct} numbers from "
                f"{found.low} to {found.high}, not from {found.first} to {found.last}"
            )
            yield Finding("numbers", PROBLEM, what, RESTORE)
    counts = ", ".join(f"{found.n_rows} {found.table}" for found in numberings)
    yield conclude(
        "numbers",
        checks.find_repeated_keys(session),
        "{n} batch keys are there twice: {named}",
        f"{counts}: numbered without a gap",
    )


def _references(session: Session) -> Iterator[Finding]:
    references = checks.find_dangling(session)
    for found in references:
        column = f"{found.table}.{found.column}"
        wrong = f"{column}: {{n}} that {found.other} does not know: {{named}}"
        yield conclude("references", found.dangling, wrong, "")
    yield Finding("references", OK, f"{len(references)} columns name only rows that are there")


def _leaks(session: Session) -> Iterator[Finding]:
    rows: list[tuple[Any, ...]] = session.find_leaks()
    if not rows:
        yield Finding("leaks", OK, "no model judged what it, or one it came from, was trained on")
        return
    model, clip, ancestor, seen = rows[0]
    many = "100 or more" if len(rows) == 100 else len(rows)
    what = f"{many} judgements of what was seen: {model} judged clip {clip}, {ancestor} learnt "
    yield Finding("leaks", PROBLEM, f"{what}clip {seen}", "labelkit train with another --seed")


def _class_names(session: Session) -> Iterator[Finding]:
    alike = tell_alike(session.classes())
    for line in alike:
        yield Finding("class names", WARNING, line, "labelkit classes merge OLD NEW")
    if not alike:
        yield Finding("class names", OK, "no two classes look alike")


_CHECKS: dict[str, Check | tuple[Rule, ...]] = {
    "numbers": _numbers,
    "references": _references,
    "replay": REPLAY,
    "clip_state": check_state,
    "clip_scores": check_scores,
    "people first": (
        Rule(
            checks.find_overridden_people,
            "a machine decided over a person in {n} events: {named}",
            "no machine decided over a person",
        ),
        Rule(
            checks.find_misattributed_undos,
            "{n} undos say they are a person's of a machine's batch, or the other way round: "
            "{named}",
        ),
    ),
    "runs": (
        Rule(
            checks.find_unfit_predictions,
            "{n} runs have predictions that do not fit their classes: {named}",
            "{n_examined} predictions fit the classes of their runs",
        ),
        Rule(
            checks.find_runs_of_the_future,
            "{n} runs read labels of a batch not before their own: {named}",
        ),
    ),
    "label sets": (
        Rule(
            checks.find_unsorted_labels,
            "{n} events have labels out of order or twice: {named}",
            "the labels of every event are in order, each once",
        ),
    ),
    "paths": (
        Rule(
            checks.find_repeated_paths,
            "{n} paths are there twice: {named}",
            "every path is there once",
        ),
        Rule(
            checks.find_confusable_paths,
            "{n} paths differ from others only in how accents are written: {named}",
            state=WARNING,
            remedy="rename the recordings, then: labelkit check --moved",
        ),
    ),
    "class names": _class_names,
    "recordings twice": (
        Rule(
            checks.find_copies,
            "{n} recordings are there under several paths: {named}",
            "no two clips have the same bytes",
            state=WARNING,
            remedy="labelkit duplicates",
        ),
    ),
    "times": (
        Rule(
            checks.find_times_that_go_back,
            "{n} batches are older than the one before them: {named}",
            "every batch is younger than the one before",
            state=WARNING,
            remedy="the clock was set back; name batches rather than dates",
        ),
    ),
    "leaks": _leaks,
}
# These ask the view of all predictions, which a missing file of a large run breaks.
_OF_PREDICTIONS = ("leaks",)
