"""What flows between the modules: clips, events, verdicts, runs, and the label matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.states import TRUSTED_STATES, UNVERIFIED
from labelkit.types import Floats, Ints, Objects, Strings

# Whether a clip has one label or may have several: a fact of the project.
ONE, SEVERAL = "one", "several"
# What a person may answer in Label Studio, and what may become of an answer.
ANSWERS = (
    "labels", "none", "unsure", "no_sound", "skipped", "quarantined", "deleted", "task_deleted",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording as an import describes it; ``row`` is its line, for messages.

    ``group`` is what it was cut from, which no fold parts; ``domain`` is its speaker, site, device
    or uploader, which folds part where that is asked for.
    """

    path: str
    labels: tuple[str, ...] = ()
    state: str = UNVERIFIED
    group: str | None = None
    fold: int | None = None
    subset: str = "train"
    content_hash: str | None = None
    duration_s: float | None = None
    domain: str | None = None
    row: int = 0


@dataclass(frozen=True, kw_only=True)
class LabelEvent:
    """What became of one clip: its state and its whole label set afterwards."""

    clip_id: int
    state: str
    labels: Sequence[int]
    source: str
    run_id: str | None = None
    iteration: int | None = None
    score: float | None = None
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelEvents:
    """Many events as columns, one entry each: what a bulk append takes.

    ``clip_ids`` is an integer array; ``labels`` holds one sequence of class ids an event;
    ``evidence`` holds JSON. A column that is None has nothing to say. Where they are ``numbered``,
    labels are numbers of ``class_rows`` rather than places in the vocabulary.
    """

    clip_ids: Ints
    states: Sequence[str]
    labels: Sequence[Sequence[int]] | Objects
    sources: Sequence[str]
    run_ids: Sequence[str | None] | None = None
    iterations: Sequence[int | None] | None = None
    scores: Sequence[float | None] | None = None
    evidence: Sequence[str | None] | None = None
    numbered: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was decided of one (clip, class), for all of the clip or for some seconds of it."""

    clip_id: int
    class_id: int
    verdict: str
    rule: str
    score: float | None = None
    start_s: float | None = None
    end_s: float | None = None


def verdicts_of(event: LabelEvent, rule: str, before: Sequence[int] = ()) -> list[Verdict]:
    """Say what an event means for each class: present if given and trusted, absent if taken away.

    Labels that are trusted no longer become unsure; a rejected clip says nothing.

    Args:
        event: The event.
        rule: Who or what decided, in a word.
        before: Class ids the clip had until then.
    """
    said: dict[int, str] = {}
    if event.state in TRUSTED_STATES:
        said = dict.fromkeys(before, "absent") | dict.fromkeys(event.labels, "present")
    elif event.state == UNVERIFIED:
        said = dict.fromkeys(event.labels, "unsure")
    return [
        Verdict(
            clip_id=event.clip_id, class_id=label, verdict=verdict, rule=rule, score=event.score
        )
        for label, verdict in sorted(said.items())
    ]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training or selection, inserted once, at the end.

    ``trained_on`` lists the clips whose audio the weights were fitted to in this
    run; ``parents`` names the runs the weights came from. Together they answer
    whether a model, or an ancestor of it, ever saw a clip.
    """

    run_id: str
    kind: str
    recipe: str
    settings: dict[str, Any]
    seed: int
    classes: Sequence[str]
    as_of: int
    part_of: str | None = None
    fold_set: str | None = None
    fold: int | None = None
    iteration: int | None = None
    parents: Sequence[str] = ()
    trained_on: Sequence[int] = ()
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Probabilities of one run: ``probs`` has shape ``(len(clip_ids), n_classes)``."""

    run_id: str
    clip_ids: Ints
    probs: Floats


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How single windows were judged: one row each, in no promised order.

    ``starts_s`` and ``ends_s`` are seconds of the recording, negative or behind its end
    where a window was padded; ``probs`` has shape ``(len(clip_ids), n_classes)``.
    """

    clip_ids: Ints
    starts_s: Floats
    ends_s: Floats
    probs: Floats


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One number a clip, or a clip and class, from one run under one metric; lower is worse."""

    run_id: str
    metric: str
    clip_ids: Ints
    values: Floats
    class_ids: Ints | None = None


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """What one run would give clips, as columns: kept with its scores, and shown with them.

    ``given`` are the class ids a clip had, ``suggested`` those the model would give it, the most
    probable first, at least one; ``reasons`` say why, in words.
    """

    run_id: str
    clip_ids: Ints
    given: Sequence[Sequence[int]]
    suggested: Sequence[Sequence[int]]
    reasons: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class ReviewProject:
    """A project in Label Studio as it was set up; ``page`` is its labelling page.

    ``name`` stands for it in the store, whatever its address; ``settings`` say how clips get
    there and how answers count.
    """

    name: str
    url: str
    project_id: int
    title: str
    page: str
    page_hash: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReviewTask:
    """A clip as it was sent to Label Studio, with what was suggested to the annotator."""

    project: str
    task_id: int
    clip_id: int
    model_version: str
    score: float
    suggested: Sequence[int]
    page_hash: str


@dataclass(frozen=True, kw_only=True)
class Review:
    """One version of what a person answered in Label Studio, or that it is gone.

    ``answer`` is one of :data:`ANSWERS`, ``labels`` are class names, ``origin`` says whether
    the suggestion was accepted, changed or not used (``manual``); ``raw`` is their JSON,
    verbatim. ``updated_at`` is the server's time, naive UTC. ``problem`` says why an answer
    is quarantined.
    """

    project: str
    task_id: int
    annotation_id: int
    updated_at: datetime
    clip_id: int | None
    annotator_id: int | None
    annotator: str
    answer: str
    labels: tuple[str, ...] = ()
    comment: str | None = None
    origin: str | None = None
    model_version: str | None = None
    lead_time_s: float | None = None
    problem: str | None = None
    raw: str


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A complete pull of a project; the next one asks for what changed after ``watermark``."""

    project: str
    watermark: datetime


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """What a class is from a batch on: renamed, merged into another one, retired, or back.

    ``class_id`` and ``into`` are numbers as of ``class_rows``, which never change.
    """

    class_id: int
    name: str
    into: int | None = None
    retired: bool = False


@dataclass(frozen=True, kw_only=True)
class ClipChange:
    """Where a clip lies from a batch on; ``gone`` if its import was taken back."""

    clip_id: int
    path: str
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One atomic append. Its ``key`` is the caller's: the same key is written only once.

    ``by_person`` says whether people stand behind it; a batch of a machine may change
    only unverified and self-verified clips. Class ids are places in the vocabulary, the batch's
    own ``classes`` behind it; who read that in an earlier session says which it was (``spoken``,
    its names and the batch after which it was read); a batch of a run need not.
    """

    key: str
    kind: str
    actor: str
    by_person: bool
    reason: str = ""
    run_id: str | None = None
    undoes: int | None = None
    classes: Sequence[str] = ()
    clips: Sequence[Clip] = ()
    events: Sequence[LabelEvent] | LabelEvents = ()
    verdicts: Sequence[Verdict] = ()
    fold_set: str | None = None
    folds: dict[int, int] = field(default_factory=dict)
    runs: Sequence[Run] = ()
    predictions: Sequence[Predictions] = ()
    scores: Sequence[Scores] = ()
    suggestions: Sequence[Suggestions] = ()
    review_projects: Sequence[ReviewProject] = ()
    review_tasks: Sequence[ReviewTask] = ()
    reviews: Sequence[Review] = ()
    pulls: Sequence[Pull] = ()
    class_changes: Sequence[ClassChange] = ()
    clip_changes: Sequence[ClipChange] = ()
    spoken: tuple[Sequence[str], int] | None = None
    facts: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What an append did; ``repeated`` if its key was written before and nothing was."""

    batch_id: int
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The current state of every clip, one entry each, in the order of the clip ids.

    ``several`` says whether a clip may have several labels.
    """

    clip_ids: Ints
    paths: list[str]
    labels: list[list[int]]
    states: Strings
    groups: list[str | None]
    subsets: Strings
    content_hashes: list[str | None]
    domains: list[str | None]
    classes: list[str]
    as_of: int
    several: bool = False

    def names(self, clip: int) -> list[str]:
        """Return the class names of the clip at index ``clip``."""
        return [self.classes[index] for index in self.labels[clip]]


@dataclass(frozen=True, kw_only=True)
class ClassFolds:
    """A class, and how many clips of it each fold has, by the fold's number."""

    class_: str = field(metadata={"key": "class"})
    clips: dict[int, int] = field(metadata={"spread": "fold {}"})


@dataclass(frozen=True)
class Frames:
    """Where spectrograms lie in a file of frames, float16 ``(total, n_mels)``.

    ``starts`` and ``lengths`` are first frame and number of frames of each clip.
    """

    path: Path
    starts: Ints = field(repr=False)
    lengths: Ints = field(repr=False)


def multi_hot(labels: Iterable[Sequence[int]], n_classes: int) -> Floats:
    """Make a label matrix of class indices.

    Args:
        labels: Class indices of each clip.
        n_classes: Width of the result.

    Returns:
        Float32 matrix of zeros and ones, shape ``(n_clips, n_classes)``.

    Raises:
        InvalidInput: If an index is out of range.

    Example:
        >>> multi_hot([[0], [1, 2], []], 3)
        array([[1., 0., 0.],
               [0., 1., 1.],
               [0., 0., 0.]], dtype=float32)
    """
    rows = [list(row) for row in labels]
    matrix = np.zeros((len(rows), n_classes), np.float32)
    clips = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    indices = np.array([index for row in rows for index in row], int)
    if len(indices) and (indices.min() < 0 or indices.max() >= n_classes):
        raise InvalidInput(f"class index {indices.max()} out of range for {n_classes} classes")
    matrix[clips, indices] = 1
    return matrix
