"""Recordings that got another name or folder: their clips follow, with all they have."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from labelkit.audio import io
from labelkit.datasets.walking import Walk, walk_recordings
from labelkit.progress import say, track
from labelkit.project import Project, user
from labelkit.records import Batch, ClipChange
from labelkit.stores.clips import find_import

KIND = "moved"
MOVED, SEVERAL_FILES, SEVERAL_CLIPS, TAKEN, GONE, OCCUPIED = (
    "moved", "several files have these bytes", "several missing clips have these bytes",
    "came in anew as another clip", "no file has these bytes",
    "a clip whose own recording is gone has that place",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MovedClip:
    """A clip whose recording is gone from its place, and where the same bytes lie now.

    ``what`` says what became of it; only a clip that is ``moved`` has a new path in the store.
    """

    path: str
    found_at: str | None
    what: str


def move_clips(project: Project, *, dry_run: bool = False) -> list[MovedClip]:
    """Give clips whose recordings were renamed or moved the paths these have now.

    A recording is the same one if it has the same bytes; files may have changed names among each
    other. Labels, history, folds and runs stay
    with the clip; an undo of the batch brings the old paths back.

    Args:
        project: Whose recordings.
        dry_run: Only say what would be done.

    Returns:
        The clips whose recordings are not at their place, in the order of their paths.

    Raises:
        RecordingsGone: If there is no audio folder.
    """
    project.check_audio()
    with project.store.read() as session:
        table = session.labels()
    clip_of = dict(zip(table.paths, table.clip_ids.tolist(), strict=True))
    hashes = dict(zip(table.paths, table.content_hashes, strict=True))
    found_at = _hash_files(project, set(clip_of))
    missing = {
        path: content
        for path, content in hashes.items()
        if content is not None and found_at.get(path) != content
    }
    files: dict[str, list[str]] = defaultdict(list)
    for path, content in sorted(found_at.items()):
        if path not in hashes or path in missing:
            files[content].append(path)
    clips_with: dict[str, list[str]] = defaultdict(list)
    for path, content in missing.items():
        clips_with[content].append(path)
    taken = {content: path for path, content in hashes.items() if content and path not in missing}

    def judge(path: str, content: str) -> MovedClip:
        there = files.get(content, [])
        if not there:
            other = taken.get(content)
            return MovedClip(path=path, found_at=other, what=TAKEN if other else GONE)
        what = (
            SEVERAL_FILES if len(there) > 1
            else SEVERAL_CLIPS if len(clips_with[content]) > 1 else MOVED
        )  # fmt: skip
        return MovedClip(path=path, found_at=there[0], what=what)

    found = _leave_occupied([judge(path, missing[path]) for path in sorted(missing)])
    changes = [
        ClipChange(clip_id=clip_of[clip.path], path=clip.found_at)
        for clip in found
        if clip.what == MOVED and clip.found_at is not None
    ]
    if changes and not dry_run:
        with project.store.write() as session:
            session.append(
                Batch(
                    key=f"{KIND}:{session.last_batch()}",
                    kind=KIND,
                    actor=user(),
                    by_person=True,
                    reason=f"{len(changes)} recordings lie elsewhere",
                    clip_changes=changes,
                )
            )
    _tell_taken(project, found)
    return found


def _leave_occupied(found: list[MovedClip]) -> list[MovedClip]:
    """Leave clips alone whose new place is that of a clip that stays, its own recording gone."""
    while True:
        staying = {clip.path for clip in found if clip.what != MOVED}
        stuck = [clip for clip in found if clip.what == MOVED and clip.found_at in staying]
        if not stuck:
            return found
        found = [replace(clip, what=OCCUPIED) if clip in stuck else clip for clip in found]


def _hash_files(project: Project, known: set[str]) -> dict[str, str]:
    """Hash the recordings of all clips that are there, and those that no clip is."""
    walk = walk_recordings(project.audio_dir, project.audio_dir, Walk())
    paths = sorted({*walk, *(path for path in known if (project.audio_dir / path).is_file())})

    def look(path: str) -> str | None:
        try:
            return io.hash_file(project.audio_dir / path)
        except OSError:
            return None

    with ThreadPoolExecutor() as pool:
        hashes = list(track(pool.map(look, paths), len(paths), "looking at recordings"))
    return {path: found for path, found in zip(paths, hashes, strict=True) if found is not None}


def _tell_taken(project: Project, found: list[MovedClip]) -> None:
    """Say how clips that came in anew under another name get their history back."""
    again = [clip for clip in found if clip.what == TAKEN]
    if again:
        with project.store.read() as session:
            batch = find_import(session, again[0].found_at or "")
        say(
            f"{len(again)} recordings came in anew as other clips, {again[0].found_at} say; to "
            f"have their history, take that import back and look again: labelkit undo {batch}"
        )
