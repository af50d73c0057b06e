"""Whether what labelkit keeps up beside the facts is what they amount to.

Views, the maintained state and scores of clips, and the Parquet files of large runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labelkit.maintenance.findings import OK, PROBLEM, REPAIR, WARNING, Finding, judge
from labelkit.stores.catalog import are_views_old
from labelkit.stores.materialised import FOLDER
from labelkit.stores.session import Session
from labelkit.stores.views import OF_THE_PRESENT, SCORES_MARK, VIEWS

_BRING_BACK = f"bring {FOLDER}/ back from where the store was, or from a copy of that folder"

# What the events amount to, by another way than the views go.
_REPLAYED = """
select clip_id, event_id, batch_id, state, labels, source, run_id, iteration, score, made_at
from (
    select *, row_number() over (partition by clip_id order by event_id desc) as age
    from label_events where event_id <= {last}
) where age = 1
"""


def check_replay(session: Session) -> Iterator[Finding]:
    """Compare ``labels_now`` with what the events amount to, and every clip has an event."""
    [(n,)] = session.rows("select count(distinct clip_id) from label_events")
    query = f"""
    with replayed as ({_REPLAYED.format(last="9223372036854775807")}),
    spelt as (select map(list(class_id), list(name)) as names from classes)
    select coalesce(r.clip_id, n.clip_id) as clip_id
    from replayed r full join labels_now n on n.clip_id = r.clip_id
    left join clips c on c.clip_id = r.clip_id cross join spelt s
    where (n.event_id, n.batch_id, n.state, n.source, n.run_id, n.iteration, n.score, n.made_at,
           n.path, n.group_name, n.subset)
        is distinct from (r.event_id, r.batch_id, r.state, r.source, r.run_id, r.iteration,
           r.score, r.made_at, c.path, c.group_name, c.subset)
    or n.labels is distinct from list_transform(r.labels, lambda x: s.names[x])
    order by 1
    """
    yield judge(
        session, "replay", query,
        lambda n, named: f"{n} clips are not what their events make of them: {named}",
        f"labels_now is what the events make of {n} clips", remedy=REPAIR,
    )  # fmt: skip
    yield judge(
        session, "replay",
        "select clip_id from clips where clip_id not in (select clip_id from label_events) "
        "order by 1",
        lambda n, named: f"{n} clips have no event: {named}", "",
    )  # fmt: skip


def check_state(session: Session) -> Iterator[Finding]:
    """Compare ``clip_state`` with what the events up to its mark amount to."""
    marks = session.rows("select event_id, batch_id from clip_state_mark")
    [(n,)] = session.rows("select count(*) from clip_state")
    right = f"clip_state: {n} clips, what their events make of them" if n else "clip_state: empty"
    if len(marks) > 1 or (n and not marks):
        what = f"clip_state has {n} rows and {len(marks)} marks"
        yield Finding("clip_state", PROBLEM, what, REPAIR)
        return
    last = marks[0][0] if marks else -1
    query = f"""
    with replayed as ({_REPLAYED.format(last=last)})
    select distinct clip_id from (
        (from replayed except all from clip_state)
        union all (from clip_state except all from replayed)
    ) order by 1
    """
    yield judge(
        session, "clip_state", query,
        lambda n, named: f"clip_state is not what the events make of {n} clips: {named}", right,
        remedy=REPAIR,
    )  # fmt: skip
    if marks:
        known = session.rows("select batch_id from label_events where event_id = ?", [last])
        if known != [(marks[0][1],)]:
            what = f"clip_state ends at event {last} of batch {marks[0][1]}, which is not there"
            yield Finding("clip_state", PROBLEM, what, REPAIR)


def check_scores(session: Session) -> Iterator[Finding]:
    """Compare ``clip_scores``, every column, with what the runs up to its mark say."""
    [(n, marks)] = session.rows(
        "select (select count(*) from clip_scores), (select count(*) from clip_scores_mark)"
    )
    if marks > 1 or (n and not marks):
        what = f"clip_scores has {n} rows and {marks} marks"
        yield Finding("clip_scores", PROBLEM, what, REPAIR)
        return
    query = f"""
    with told as (select run_id, kind, batch_id, coalesce(iteration, -1) as iteration from runs
                  where batch_id <= {SCORES_MARK} and {OF_THE_PRESENT}),
    replayed as (
        select clip_id,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'fusion') as fusion,
               max(batch_id) filter (metric = 'fusion') as fused,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'lwlrap') as lwlrap,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'self_confidence')
                   as self_confidence,
               max(batch_id) filter (kind <> 'score') as trained
        from scores join told using (run_id) where class_id = -1 group by clip_id
    ),
    judged as (
        select clip_id, max_by(run_id, (batch_id, iteration, run_id)) as judge
        from suggestions join told using (run_id) group by clip_id
    ),
    wanted as (
        select clip_id, path, fusion, fused, lwlrap, self_confidence, trained, judge
        from replayed full join judged using (clip_id) join clips using (clip_id)
        where exists (from clip_scores_mark)
    ),
    kept as (
        select clip_id, path, fusion, fused, lwlrap, self_confidence, trained, judge
        from clip_scores
    )
    select distinct clip_id from (
        (from wanted except all from kept) union all (from kept except all from wanted)
    ) order by 1
    """
    yield judge(
        session, "clip_scores", query,
        lambda n, named: f"clip_scores is not what the runs say of {n} clips: {named}",
        f"clip_scores: {n} clips, what their runs say" if n else "clip_scores: empty",
        remedy=REPAIR,
    )  # fmt: skip


def check_views(con: Any) -> Iterator[Finding]:
    """Look whether every view is there and can be asked, and is of this labelkit."""
    import duckdb

    n = 0
    asked = {"predictions": "predictions"} | {view.name: view.called(0) for view in VIEWS}
    for name, called in asked.items():
        try:
            con.execute(f"explain from {called}")
            n += 1
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            what = f"{name} cannot be asked: {str(error).splitlines()[0]}"
            yield Finding("views", PROBLEM, what, REPAIR)
        except duckdb.IOException:
            # A file of a large run is missing, which is another finding.
            n += 1
    if n == len(VIEWS) + 1 and are_views_old(con):
        yield Finding("views", WARNING, "they are of another version of labelkit", REPAIR)
    yield Finding("views", OK, f"all {n} are there")


def check_large_runs(session: Session) -> Iterator[Finding]:
    """Compare the Parquet files beside the store with the runs they are registered for."""
    import duckdb

    [(root,)] = session.rows("select current_setting('file_search_path')")
    folder = Path(root)
    files = session.rows("select run_id, file, n_clips from prediction_files order by 1")
    wrong = []
    for run_id, file, n_clips in files:
        if not (folder / file).is_file():
            wrong.append(f"{file} (predictions of {run_id}) is not there")
            continue
        try:
            [(n,)] = session.rows(
                "select count(*) from read_parquet(?) where run_id = ? "
                "and len(probs) = (select len(classes) from runs where run_id = ?)",
                [str(folder / file), run_id, run_id],
            )
        except duckdb.Error as error:
            wrong.append(f"{file}: {str(error).splitlines()[0]}")
        else:
            if n != n_clips:
                wrong.append(f"{file} holds {n} clips of {run_id}, not {n_clips}")
    if wrong:
        what = f"{len(wrong)} of {len(files)} are not right: {wrong[0]}; leaks were not examined"
        yield Finding("large runs", PROBLEM, what, _BRING_BACK)
    elif files:
        yield Finding("large runs", OK, f"all {len(files)} are there")
    places = {folder / FOLDER} | {(folder / file).parent for _, file, _ in files}
    named = {folder / file for _, file, _ in files}
    found = sorted(file for place in places for file in place.glob("*.parquet"))
    loose = [file for file in found if file not in named and ".partial." not in file.name]
    if loose:
        what = f"{len(loose)} Parquet files are of no run: {loose[0].relative_to(folder)}"
        yield Finding("large runs", WARNING, what, "remove them, if no other run is being written")
