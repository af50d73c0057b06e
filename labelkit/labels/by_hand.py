"""A person says what is in one clip, without a file and without Label Studio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labelkit import registry
from labelkit.datasets.oddities import tell_alike
from labelkit.datasets.reading import is_class_name, shown
from labelkit.errors import InvalidInput
from labelkit.labels.history import find_known_clip
from labelkit.labels.kind import REMEDY
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import Batch, LabelEvent, verdicts_of
from labelkit.states import REJECTED, RELABELED, VERIFIED

KIND = "label"


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """What became of a clip; ``batch`` is None where a person had said the same before."""

    path: str
    before: list[str]
    after: list[str]
    state_before: str
    state: str
    batch: int | None


def label_clip(
    project: Project,
    clip: str,
    classes: Sequence[str],
    *,
    reject: bool = False,
    reason: str = "",
    actor: str | None = None,
    add_classes: bool = False,
) -> LabelReport:
    """Give a clip its labels, as a person's decision.

    The clip is ``verified`` if these are the labels it had, else ``relabeled``.

    Args:
        project: Where it is.
        clip: Path below the audio folder.
        classes: All labels it shall have; none if it holds no class of the vocabulary.
        reject: It has no usable sound, and so no labels.
        reason: Why, in the history.
        actor: Who says so; the user if None.
        add_classes: Let new classes join the vocabulary.

    Raises:
        InvalidInput: If there is no such clip or class.
    """
    wanted = list(dict.fromkeys(classes))
    if reject and wanted:
        raise InvalidInput("a rejected clip has no labels; leave the classes out, or --reject")
    with project.store.write() as session:
        clip_id, names = find_known_clip(session, clip), session.classes()
        new = [name for name in wanted if name not in names]
        odd = [name for name in new if not is_class_name(name) or name != name.strip()]
        if odd:
            raise InvalidInput(
                f"{shown(odd[0])} can be no name of a class; give one without control characters "
                "and outer spaces that is not 'remove', or --none, or --reject"
            )
        if new and not add_classes:
            raise InvalidInput(
                f"no class {shown(new[0])}; {registry.suggestion(new[0], names)}, or give "
                "--add-classes"
            )
        for line in tell_alike(new, names):
            say(f"odd: {line}")
        table = session.labels()
        if len(wanted) > 1 and session.is_kind_known() and not table.several:
            raise InvalidInput(f"{len(wanted)} labels for {shown(clip)}; {REMEDY}")
        row = table.clip_ids.tolist().index(clip_id)
        before, state_before = table.labels[row], str(table.states[row])
        place = {name: number for number, name in enumerate([*names, *new])}
        labels = sorted(place[name] for name in wanted)
        state = REJECTED if reject else VERIFIED if labels == before else RELABELED
        after = [name for name in [*names, *new] if name in wanted]
        report = LabelReport(
            path=clip, before=table.names(row), after=after, state_before=state_before,
            state=state, batch=None,
        )  # fmt: skip
        settled = state_before in (VERIFIED, RELABELED, REJECTED)
        if settled and labels == before and (state_before == REJECTED) == reject:
            return replace(report, state=state_before)
        event = LabelEvent(clip_id=clip_id, state=state, labels=labels, source=KIND)
        receipt = session.append(
            Batch(
                key=f"{KIND}:{session.last_batch()}",
                kind=KIND,
                actor=actor or user(),
                by_person=True,
                reason=reason,
                classes=new,
                events=[event],
                verdicts=verdicts_of(event, KIND, before),
            )
        )
    return replace(report, batch=receipt.batch_id)
