"""What an import compares new clips with: those of the same kin, and those that are here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labelkit.records import Clip
from labelkit.stores.append import IMPORTED_FOLDS
from labelkit.stores.columns import as_column
from labelkit.stores.session import Session


@dataclass(frozen=True, kw_only=True)
class ImportedClip:
    """A clip that came in before; ``first`` and ``now`` are its class names and its state."""

    subset: str
    group: str | None
    domain: str | None
    first: tuple[frozenset[str], str]
    now: tuple[frozenset[str], str]


def find_kin(session: Session, clips: Sequence[Clip]) -> list[Clip]:
    """Find the clips of the store that share a group or a recording with some clips.

    Args:
        session: The open store.
        clips: Clips, which need not be in the store.

    Returns:
        The clips of the store, without labels, in the order in which they came in.
    """
    rows = session.rows_beside(
        {
            "group_name": as_column(clip.group for clip in clips),
            "content_hash": as_column(clip.content_hash for clip in clips),
        },
        # A column of nothing but None arrives without a type, hence the casts.
        "with kin as (select clip_id from clips semi join "
        "(select group_name::varchar as group_name from arrays) using (group_name) "
        "union select clip_id from clips semi join "
        "(select content_hash::varchar as content_hash from arrays) using (content_hash)) "
        "select c.path, c.group_name, c.content_hash, c.subset, f.fold "
        "from clips c semi join kin using (clip_id) "
        "left join folds f on f.clip_id = c.clip_id and f.fold_set = ? order by c.clip_id",
        [IMPORTED_FOLDS],
    )
    return [
        Clip(path=path, group=group, content_hash=content, subset=subset, fold=fold)
        for path, group, content, subset, fold in rows
    ]


def read_imported(session: Session, paths: Iterable[str]) -> dict[str, ImportedClip]:
    """Read how clips came in and how they stand, by path.

    Args:
        session: The open store.
        paths: The clips; those the store does not have are left out.
    """
    names = session.classes()

    def spell(labels: Sequence[int], state: str) -> tuple[frozenset[str], str]:
        return frozenset(names[label] for label in labels), state

    rows = session.rows_beside(
        {"path": as_column(paths)},
        "with known as (select clip_id, path, subset, group_name, domain_name from clips "
        "semi join (select path::varchar as path from arrays) using (path)), "
        "firsts as (select clip_id, min_by((labels, state), event_id) as said "
        "from label_events where clip_id in (select clip_id from known) group by clip_id) "
        "select k.path, k.subset, k.group_name, k.domain_name, f.said, (n.labels, n.state) "
        "from known k join firsts f using (clip_id) join current_events n using (clip_id)",
    )
    return {
        path: ImportedClip(
            subset=subset, group=group, domain=domain, first=spell(*first), now=spell(*now)
        )
        for path, subset, group, domain, first, now in rows
    }
