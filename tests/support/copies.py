"""Two copies of a project, and decisions in them."""

from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.records import Batch, LabelEvent, verdicts_of
from tests.support.clips import write_csv
from tests.support.commands import rows
from tests.support.projects import copy_project

CLASSES = ["Bird", "Car", "Dog"]
PATHS = [f"{k}.wav" for k in range(12)]
NOW = "select path, list_sort(labels), state from labels_now"


def make_copies(root):
    """A project of twelve clips, the first two verified, and a copy of it."""
    (root / "a" / "audio").mkdir(parents=True)
    project, _ = create_project(root / "a", root / "a" / "audio")
    add_clips(project, [(p, CLASSES[k % 3], int(k < 2)) for k, p in enumerate(PATHS)])
    with project.store.write() as session:
        # Clips may have several labels, though none has at first.
        session.rows("update facts set value = 'several'")
    return project, copy_project(project, root / "b")


def add_clips(project, lines):
    source = write_csv(project.root / "clips.csv", ("fname", "label", "verified"), lines)
    spec = FormatSpec(verified_column="verified")
    import_labels(project, source, "csv", spec, metadata_only=True, add_classes=True)


def decide(project, clips, *, actor="alice", state="relabeled", kind="corrections"):
    """A batch of one actor: labels by number of the clip; a machine where the state is one's."""
    machine = state in ("unverified", "self_verified")
    with project.store.write() as session:
        classes, table = session.classes(), session.labels()
        events = [
            LabelEvent(clip_id=table.paths.index(PATHS[k] if isinstance(k, int) else k),
                       state=state, source=kind, labels=[classes.index(n) for n in names])
            for k, names in clips.items()
        ]  # fmt: skip
        before = {e.clip_id: table.labels[e.clip_id] for e in events}
        said = [v for e in events for v in verdicts_of(e, kind, before[e.clip_id])]
        batch = Batch(key=f"{kind}:{session.last_batch()}", kind=kind, actor=actor, events=events,
                      by_person=not machine, verdicts=said, reason="as heard")  # fmt: skip
        return session.append(batch).batch_id


def labels_now(project):
    return {path: (state, labels) for path, labels, state in rows(project, NOW)}


def replayed(project):
    """The newest event of each clip, told anew from all of them."""
    with project.store.read() as session:
        names, found = session.classes(), {}
        for path, state, labels in session.rows(
            "select path, state, e.labels from label_events e join clips using (clip_id) "
            "order by event_id"
        ):
            found[path] = (state, sorted(names[k] for k in labels))
    return found
