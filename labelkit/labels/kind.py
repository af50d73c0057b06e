"""Whether a clip has one label or may have several: a fact of the project, changed on purpose."""

from __future__ import annotations

from dataclasses import dataclass

from labelkit.datasets.reading import shown
from labelkit.errors import InvalidInput
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import ONE, SEVERAL, Batch
from labelkit.stores.append import WriteSession
from labelkit.stores.clips import find_clips_with_several

KIND = "labels"
# What a clip of several labels meets in a project of one.
REMEDY = "give it one, or allow several with: labelkit labels several"


@dataclass(frozen=True, kw_only=True)
class KindReport:
    """How many labels a clip may have (``one`` or ``several``), and the batch that says so.

    ``labels`` is None where nobody has said it and no clip tells, ``batch`` where it was so before.
    """

    labels: str | None
    batch: int | None


def read_kind(project: Project) -> KindReport:
    """Tell whether clips have one label or may have several."""
    with project.store.read() as session:
        return KindReport(labels=session.kind(), batch=None)


def set_kind(project: Project, kind: str) -> KindReport:
    """State whether clips have one label or may have several.

    Networks of later runs end in a softmax or in sigmoids after it, and are judged by accuracy or
    by lwlrap; earlier runs cannot be compared with them.

    Args:
        project: Where.
        kind: ``one`` or ``several``.

    Raises:
        InvalidInput: If clips have several labels that are to have one.
    """
    with project.store.write() as session:
        return _set(session, kind)


def _set(session: WriteSession, kind: str) -> KindReport:
    known = session.is_kind_known()
    if known and session.allows_several() == (kind == SEVERAL):
        return KindReport(labels=kind, batch=None)
    if kind == ONE:
        clips, n = find_clips_with_several(session)
        if n:
            raise InvalidInput(
                f"{n} clips have several labels, {shown(clips[0])} say; give them one first "
                "(labelkit label CLIP CLASS, or --format corrections)"
            )
    receipt = session.append(
        Batch(
            key=f"{KIND}:{session.last_batch()}",
            kind=KIND,
            actor=user(),
            by_person=True,
            reason=f"a clip has {kind} label{'s' if kind == SEVERAL else ''}",
            facts={KIND: kind},
        )
    )
    if known and session.last_run() is not None:
        say(
            "runs from now on are judged otherwise (one label a clip: softmax and accuracy; "
            "several: sigmoids and lwlrap); do not compare them with earlier ones"
        )
    return KindReport(labels=kind, batch=receipt.batch_id)
