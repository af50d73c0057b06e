"""Whether what labelkit keeps up beside the facts is what they amount to.

Views, the maintained state and scores of clips, and the Parquet files of large runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labelkit.maintenance.findings import OK, PROBLEM, REPAIR, WARNING, Finding, Rule, conclude
from labelkit.stores.checks import find_clips_without_events
from labelkit.stores.derived import (
    count_predictions,
    count_scores,
    count_state,
    find_broken_views,
    find_folder,
    find_replay_differences,
    find_score_differences,
    find_state_differences,
    is_mark_known,
    list_large_runs,
    read_state_mark,
)
from labelkit.stores.materialised import FOLDER
from labelkit.stores.session import Session

_BRING_BACK = f"bring {FOLDER}/ back from where the store was, or from a copy of that folder"

# That ``labels_now`` is what the events amount to, and every clip has an event.
REPLAY = (
    Rule(
        find_replay_differences,
        "{n} clips are not what their events make of them: {named}",
        "labels_now is what the events make of {n_examined} clips",
        remedy=REPAIR,
    ),
    Rule(find_clips_without_events, "{n} clips have no event: {named}"),
)


def check_state(session: Session) -> Iterator[Finding]:
    """Compare ``clip_state`` with what the events up to its mark amount to."""
    kept = count_state(session)
    if not kept.whole:
        what = f"clip_state has {kept.n_rows} rows and {kept.n_marks} marks"
        yield Finding("clip_state", PROBLEM, what, REPAIR)
        return
    right = f"{kept.n_rows} clips, what their events make of them" if kept.n_rows else "empty"
    mark = read_state_mark(session)
    yield conclude(
        "clip_state",
        find_state_differences(session, mark),
        "clip_state is not what the events make of {n} clips: {named}",
        f"clip_state: {right}",
        remedy=REPAIR,
    )
    if mark and not is_mark_known(session, mark):
        what = f"clip_state ends at event {mark.event_id} of batch {mark.batch_id}"
        yield Finding("clip_state", PROBLEM, f"{what}, which is not there", REPAIR)


def check_scores(session: Session) -> Iterator[Finding]:
    """Compare ``clip_scores``, every column, with what the runs up to its mark say."""
    kept = count_scores(session)
    if not kept.whole:
        what = f"clip_scores has {kept.n_rows} rows and {kept.n_marks} marks"
        yield Finding("clip_scores", PROBLEM, what, REPAIR)
        return
    right = f"{kept.n_rows} clips, what their runs say" if kept.n_rows else "empty"
    yield conclude(
        "clip_scores",
        find_score_differences(session),
        "clip_scores is not what the runs say of {n} clips: {named}",
        f"clip_scores: {right}",
        remedy=REPAIR,
    )


def check_views(con: Any) -> Iterator[Finding]:
    """Look whether every view is there and can be asked, and is of this labelkit."""
    found = find_broken_views(con)
    for view in found.broken:
        yield Finding("views", PROBLEM, f"{view.name} cannot be asked: {view.said}", REPAIR)
    if found.old and not found.broken:
        yield Finding("views", WARNING, "they are of another version of labelkit", REPAIR)
    elif found.altered and not found.broken:
        what = f"not what labelkit makes: {', '.join(found.altered[:5])}"
        yield Finding("views", PROBLEM, what, REPAIR)
    yield Finding("views", OK, f"all {found.n} are there")


def check_large_runs(session: Session) -> Iterator[Finding]:
    """Compare the Parquet files beside the store with the runs they are registered for."""
    import duckdb

    folder, runs = find_folder(session), list_large_runs(session)
    wrong = []
    for run in runs:
        if not (folder / run.file).is_file():
            wrong.append(f"{run.file} (predictions of {run.run_id}) is not there")
            continue
        try:
            n = count_predictions(session, folder / run.file, run.run_id)
        except duckdb.Error as error:
            wrong.append(f"{run.file}: {str(error).splitlines()[0]}")
        else:
            if n != run.n_clips:
                wrong.append(f"{run.file} holds {n} clips of {run.run_id}, not {run.n_clips}")
    if wrong:
        what = f"{len(wrong)} of {len(runs)} are not right: {wrong[0]}; leaks were not examined"
        yield Finding("large runs", PROBLEM, what, _BRING_BACK)
    elif runs:
        yield Finding("large runs", OK, f"all {len(runs)} are there")
    named = {folder / run.file for run in runs}
    found = sorted((folder / FOLDER).glob("*.parquet"))
    loose = [file for file in found if file not in named and ".partial." not in file.name]
    if loose:
        what = f"{len(loose)} Parquet files are of no run: {loose[0].relative_to(folder)}"
        yield Finding("large runs", WARNING, what, "labelkit gc, where room is wanted")
