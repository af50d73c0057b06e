"""From the store to the file of a change set."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from labelkit.files import replacing
from labelkit.labels.changes.change_set import (
    Before,
    Change,
    ChangeSet,
    Origin,
    Part,
    Said,
    format_changes,
)
from labelkit.labels.changes.origins import read_origins
from labelkit.project import Project, check_target
from labelkit.records import MACHINE_STATES, Clip
from labelkit.stores.append import IMPORTED_FOLDS
from labelkit.stores.as_of import find_batch
from labelkit.stores.session import Session

# Batches that say something of labels, in the part of the history that is wanted.
_WANTED = """
with wanted as (
    select b.batch_id from batches b
    where b.batch_id > $first and (b.by_person or not $people)
    and (b.undoes is not null or b.batch_id in (
        select batch_id from classes union select batch_id from clips
        union select batch_id from label_events union select batch_id from label_verdicts
    ))
)
"""


def export_changes(
    project: Project,
    file: Path,
    *,
    since: str | None = None,
    people: bool = False,
    force: bool = False,
) -> dict[str, int]:
    """Write what became of the labels, for another copy of the data set.

    The same store gives the same file. Runs, predictions, scores, folds and the answers of
    Label Studio as they came stay here.

    Args:
        project: Whose labels.
        file: Where to.
        since: Only batches after this moment
            (:func:`labelkit.stores.as_of.find_batch`); all if None.
        people: Only what people stand behind.
        force: Write over a file that is there.

    Returns:
        How many batches, clips, events and verdicts the file holds.

    Raises:
        InvalidInput: If ``since`` is no moment of this store, or the file is there.
    """
    file = check_target(project, file, force=force)
    with project.store.connect(read_only=True) as con:
        first = 0 if since is None else find_batch(con, since)
        changes = collect_changes(Session(con), first=first, people=people)
    text = format_changes(changes).encode()
    with replacing(file) as out:
        out.write(text)
    parts = changes.batches
    return {
        "batches": len(parts),
        "clips": sum(len(part.clips) for part in parts),
        "events": sum(len(part.events) for part in parts),
        "verdicts": sum(len(part.verdicts) for part in parts),
    }


def collect_changes(session: Session, *, first: int = 0, people: bool = False) -> ChangeSet:
    """What became of labels after a batch, as a change set.

    Args:
        session: The open store.
        first: The last batch to leave out.
        people: Only what people stand behind.
    """
    told = read_origins(session)
    origins = {batch_id: origin for batch_id, (origin, _) in told.items()}
    values = {"first": first, "people": people}
    names = session.classes()
    new_classes = _by_batch(session.rows("select batch_id, name from classes order by class_id"))
    clips = _by_batch(_read_clips(session, values, names))
    events = _by_batch(_read_events(session, values, names, origins))
    verdicts = _by_batch(_read_verdicts(session, values, names))
    parts = tuple(
        Part(
            origin=origins[batch_id], kind=kind, actor=actor, by_person=by_person,
            reason=told[batch_id][1], undoes=None if undoes is None else origins[undoes],
            classes=tuple(new_classes[batch_id]), clips=tuple(clips[batch_id]),
            events=tuple(events[batch_id]), verdicts=tuple(verdicts[batch_id]),
        )
        for batch_id, kind, actor, by_person, undoes in session.rows(
            f"{_WANTED} select batch_id, kind, actor, by_person, undoes from batches "
            "semi join wanted using (batch_id) order by batch_id",
            values,
        )
    )  # fmt: skip
    [(store_id, made_at, since)] = session.rows(
        "select (select store_id from store_info), max(made_at), "
        "max(made_at) filter (batch_id = ?) from batches",
        [first],
    )
    named = {content for part in parts for _, content in part.recordings()}
    shared = session.rows(
        "select content_hash from clips where content_hash is not null "
        "group by content_hash having count(*) > 1 order by content_hash"
    )
    return ChangeSet(
        store_id=store_id, made_at=made_at, since=since,
        people=people, classes=tuple(names), batches=parts,
        shared_recordings=tuple(content for (content,) in shared if content in named),
    )  # fmt: skip


def _by_batch(rows: list[tuple[int, Any]]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for batch_id, row in rows:
        found[batch_id].append(row)
    return found


def _spell(labels: list[int], names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names[label] for label in labels))


def _read_clips(
    session: Session, values: dict[str, Any], names: list[str]
) -> list[tuple[int, Clip]]:
    """Clips as they came in."""
    rows = session.rows(
        f"{_WANTED}, "
        "intake as (select min(event_id) as event_id from label_events group by clip_id) "
        "select c.batch_id, c.path, c.content_hash, c.duration_s, c.group_name, c.subset, "
        "e.state, e.labels, f.fold from clips c semi join wanted using (batch_id) "
        "join (from label_events semi join intake using (event_id)) e on e.clip_id = c.clip_id "
        "left join folds f on f.clip_id = c.clip_id and f.fold_set = $folds order by c.clip_id",
        values | {"folds": IMPORTED_FOLDS},
    )
    return [
        (batch_id, Clip(path=path, content_hash=content, duration_s=duration_s, group=group,
                        subset=subset, state=state, labels=_spell(labels, names), fold=fold))
        for batch_id, path, content, duration_s, group, subset, state, labels, fold in rows
    ]  # fmt: skip


def _read_events(
    session: Session, values: dict[str, Any], names: list[str], origins: dict[int, Origin]
) -> list[tuple[int, Change]]:
    """Events after the first of each clip, with what the clip was before.

    Where only people count, who took a word back gives a clip what people had left open before,
    rather than what a machine had made of it.
    """
    rows = session.rows(
        f"""
        {_WANTED},
        told as (
            select *, lag(state) over w as state_before, lag(labels) over w as labels_before,
                   lag(batch_id) over w as batch_before,
                   last_value(if(by_person and undoes is null and list_contains($machine, state),
                                 {{'state': state, 'labels': labels}}, null)
                              ignore nulls) over w as left_open,
                   $people and undoes is not null and list_contains($machine, state)
                   and left_open is not null as opened
            from (select e.*, b.by_person, b.undoes from label_events e
                  join batches b on b.batch_id = e.batch_id)
            where clip_id in (select clip_id from label_events where batch_id > $first)
            window w as (partition by clip_id order by event_id)
        )
        select t.batch_id, c.path, c.content_hash, t.state_before, t.labels_before,
               t.batch_before, if(opened, left_open.state, t.state),
               if(opened, left_open.labels, t.labels), t.source, t.score, t.iteration, t.evidence,
               t.run_id
        from told t semi join wanted using (batch_id) join clips c on c.clip_id = t.clip_id
        where t.batch_before is not null order by t.event_id
        """,
        values | {"machine": list(MACHINE_STATES)},
    )
    found = []
    for batch_id, path, content, state_before, labels_before, batch_before, *now in rows:
        state, labels, source, score, iteration, evidence, run_id = now
        before = Before(
            state=state_before, labels=_spell(labels_before, names), batch=origins[batch_before].id
        )
        told = None if evidence is None else json.loads(evidence)
        if run_id is not None:
            # The run stays here, its name tells who judged.
            told = (told or {}) | {"run": run_id}
        change = Change(
            path=path, content_hash=content, before=before, state=state,
            labels=_spell(labels, names), source=source, score=score, iteration=iteration,
            evidence=told,
        )  # fmt: skip
        found.append((batch_id, change))
    return found


def _read_verdicts(
    session: Session, values: dict[str, Any], names: list[str]
) -> list[tuple[int, Said]]:
    rows = session.rows(
        f"{_WANTED} select v.batch_id, c.path, c.content_hash, v.class_id, v.verdict, v.rule, "
        "v.score, v.start_s, v.end_s from label_verdicts v semi join wanted using (batch_id) "
        "join clips c on c.clip_id = v.clip_id order by v.verdict_id",
        values,
    )
    return [
        (batch_id, Said(path=path, content_hash=content, name=names[class_id], verdict=verdict,
                        rule=rule, score=score, start_s=start_s, end_s=end_s))
        for batch_id, path, content, class_id, verdict, rule, score, start_s, end_s in rows
    ]  # fmt: skip
