"""Where the recordings of a label file lie: looked at, and found where none is at its path.

A label file comes from elsewhere, and its paths may be those of another folder or spelling.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

from labelkit.audio import io, pyav
from labelkit.config import FormatSpec
from labelkit.datasets.matching import Recordings
from labelkit.datasets.reading import Reading, shown
from labelkit.datasets.walking import Walk, walk_recordings
from labelkit.paths import is_dead_link, leads_out
from labelkit.progress import say, track
from labelkit.project import Project
from labelkit.records import Clip

# Recordings that a thread looks at, one after the other, and such handfuls that wait for one.
_HANDFUL, _BLOCK = 16, 256
# Faults of one kind and one remedy beyond which they are one.
_ALIKE = 5
# Missing recordings for which the nearest name is looked for: it takes a while.
_GUESSES = 3


def look_at_files(
    project: Project, reading: Reading, spec: FormatSpec, *, beside: Path | None = None
) -> None:
    """Hash every recording and read its length; a missing one is a fault.

    Those that links take out of the audio folder are left out, unless they are to be followed.
    Where none lies at a path, the one that is meant is looked for; paths may as well be those
    from ``beside``, the folder of the label file.

    What the file says of both is told where it differs; that of the recording counts.
    """
    if not spec.follow_links:
        root = project.audio_dir.resolve()
        out = {
            clip.path
            for clip in reading.clips
            if leads_out(root, clip.path) and not is_dead_link(root, clip.path)
        }
        reading.left.linked_out += sorted(out)
        reading.clips = [clip for clip in reading.clips if clip.path not in out]
    said = {clip.path: clip.content_hash for clip in reading.clips}
    looked = _look(project, reading.clips)
    missing = [clip for clip in reading.clips if looked[clip.path] is None]
    if missing or reading.astray:
        moved = _find_moved(project, reading, missing, spec, beside)
        reading.move(moved)
        said = {moved.get(path, path): value for path, value in said.items()}
        there = {clip.path for clip in reading.clips}
        looked = {path: seen for path, seen in looked.items() if path in there}
        looked |= _look(project, [clip for clip in reading.clips if looked.get(clip.path) is None])
    found = []
    for clip in reading.clips:
        seen = looked[clip.path]
        if isinstance(seen, Clip):
            found.append(seen)
        elif isinstance(seen, OSError):
            reading.fault(
                clip.row,
                f"{shown(clip.path)} cannot be read ({seen.strerror or seen})",
                "make it readable (chmod, chown), or import with --metadata-only",
            )
    reading.clips = found
    _tell_foreign(found)
    changed = [clip.path for clip in found if said.get(clip.path) not in (None, clip.content_hash)]
    if changed:
        say(
            f"{len(changed)} recordings are not those whose hashes the file holds, for example "
            f"{shown(changed[0])}; they are taken as they are"
        )


def _look(project: Project, clips: Sequence[Clip]) -> dict[str, Clip | OSError | None]:
    """Hash recordings and read their lengths, by path; None where there is none."""

    def look(clip: Clip) -> Clip | OSError | None:
        path = project.audio_dir / clip.path
        try:
            if not path.is_file():
                return None
        except OSError:  # A name too long for the file system, say.
            return None
        try:
            return replace(clip, content_hash=io.hash_file(path), duration_s=io.duration_s(path))
        except OSError as error:
            return error

    def look_at(clips: Sequence[Clip]) -> list[Clip | OSError | None]:
        return [look(clip) for clip in clips]

    n = len(clips)
    # A clip is looked at in less time than it takes to hand it to a thread.
    handfuls = [clips[at : at + _HANDFUL] for at in range(0, n, _HANDFUL)]
    with ThreadPoolExecutor() as pool:
        # What is handed to the pool waits there whole, in far more memory than a clip takes.
        blocks = (
            pool.map(look_at, handfuls[at : at + _BLOCK]) for at in range(0, len(handfuls), _BLOCK)
        )
        done = chain.from_iterable(chain.from_iterable(blocks))
        found = list(track(done, n, "looking at recordings"))
    return {clip.path: seen for clip, seen in zip(clips, found, strict=True)}


def _find_moved(
    project: Project,
    reading: Reading,
    missing: Sequence[Clip],
    spec: FormatSpec,
    beside: Path | None,
) -> dict[str, str]:
    """Find the recordings that are meant where none lies at a path, by the path of the clip.

    Where none is found, or the wrong one could be, that is a fault.
    """
    walk = walk_recordings(
        project.audio_dir, project.audio_dir, Walk(), follow_links=spec.follow_links
    )
    recordings = Recordings(walk)
    there = set(recordings.paths)
    match = spec.match or reading.match
    taken = {clip.path: clip.row for clip in reading.clips}
    moved: dict[str, str] = {}
    n_guesses = 0
    astray, reading.astray = reading.astray, []
    strays = set(map(id, astray))
    folder, root = beside and beside.resolve(), project.audio_dir.resolve()
    offers: dict[str, list[tuple[Clip, str]]] = defaultdict(list)
    dead = [clip for clip in missing if is_dead_link(root, clip.path)]
    if len(dead) > _ALIKE:
        reading.fault(
            0,
            f"{len(dead)} recordings are links that lead nowhere: {shown(dead[0].path)} of row "
            f"{dead[0].row}, say",
            "fetch the files (git annex get, dvc pull), or mend the links",
        )
        gone = {clip.path for clip in dead}
        missing = [clip for clip in missing if clip.path not in gone]
    for clip in [*missing, *astray]:
        others = reading.others.get(clip.path, ())
        from_there = folder and os.path.relpath(folder / clip.path, root)
        if from_there in there:
            others = (from_there, *others)
        hits = recordings.find(clip.path, match, others)
        if len(hits) != 1:
            how, hits = recordings.suggest(clip.path, others)
            if len(hits) == 1:
                offers[how].append((clip, hits[0]))
                continue
            guess = None
            if not hits and n_guesses < _GUESSES:
                guess, n_guesses = recordings.guess(clip.path), n_guesses + 1
            reading.fault(clip.row, *_missing(project, clip, how, hits, guess))
        elif hits[0] in taken:
            reading.fault(
                clip.row,
                f"{shown(clip.path)} and {shown(reading.respelt.get(hits[0], hits[0]))} in row "
                f"{taken[hits[0]]} are the same recording, {shown(hits[0])}",
                "keep one of them, or give both paths as they are",
            )
        else:
            taken[hits[0]] = clip.row
            reading.respelt[hits[0]] = clip.path
            if id(clip) in strays:
                reading.add(replace(clip, path=hits[0]))
            else:
                moved[clip.path] = hits[0]
    for how, found in offers.items():
        if len(found) > _ALIKE:
            clip, hit = found[0]
            reading.fault(
                0,
                f"{len(found)} recordings do not lie at their paths: {shown(clip.path)} of row "
                f"{clip.row} at {shown(hit)}, say",
                f"take them with --match {how}, or give their paths",
            )
            continue
        for clip, hit in found:
            reading.fault(clip.row, *_missing(project, clip, how, [hit], None))
    return moved


def _missing(
    project: Project, clip: Clip, how: str, hits: Sequence[str], guess: str | None
) -> tuple[str, str]:
    """Say that a recording is missing, what there is instead, and what to do."""
    if is_dead_link(project.audio_dir, clip.path):
        return (
            f"{shown(clip.path)} is a link that leads nowhere, or below one",
            "fetch the file (git annex get, dvc pull), or mend the link",
        )
    problem = f"no recording {shown(clip.path)} in {project.audio_dir}"
    if len(hits) == 1:
        return f"{problem}, but {shown(hits[0])}", f"give its path, or take it with --match {how}"
    if hits:
        more = f" and {len(hits) - 2} more" if len(hits) > 2 else ""
        there = f"{shown(hits[0])}, {shown(hits[1])}{more}"
        return f"{problem}, but several that could be meant: {there}", "give the path of one"
    if guess is not None:
        problem += f"; the nearest name is {shown(guess)}"
    return problem, "put it there, give --prefix, or import with --metadata-only"


def _tell_foreign(clips: Sequence[Clip]) -> None:
    """Tell of recordings that only FFmpeg's decoders read, and of what is needed for them."""
    kinds = Counter(Path(clip.path).suffix.lower() for clip in clips)
    foreign = {kind: kinds[kind] for kind in pyav.EXTENSIONS if kinds[kind]}
    if foreign:
        said = ", ".join(f"{n} {kind}" for kind, n in foreign.items())
        how = "FFmpeg's decoders read them, by PyAV"
        if not pyav.is_there():
            how = f"{how}, which is not installed: pip install av, or convert them to flac"
        say(f"{said}: {how}")
