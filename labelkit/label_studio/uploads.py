"""Recordings uploaded to Label Studio, for servers that do not see the file system."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from labelkit.audio.io import duration_s, hash_file, read_audio
from labelkit.errors import InvalidInput, ServiceError
from labelkit.label_studio.audio import UNREAD, Share
from labelkit.label_studio.boxes import holds_sound_alone
from labelkit.label_studio.client import MAX_BYTES, MAX_FILES, Client

# What the server takes: characters of a title, and formats.
MAX_TITLE = 50
ACCEPTED = (".wav", ".mp3", ".flac", ".ogg", *UNREAD)
# An upload is refused unless the page of its project asks for exactly one data key.
BOX_PAGE = (
    '<View><Audio name="audio" value="$audio"/>'
    '<Choices name="kept" toName="audio"><Choice value="recording"/></Choices></View>'
)
# How labelkit writes hashes of files.
_HASH = re.compile("[0-9a-f]{32}")
BOX_DESCRIPTION = "Recordings that labelkit uploaded for other projects; it has no tasks. Keep it."


def create_box(client: Client, title: str) -> Share:
    """Make a project that only holds uploads, or adopt the one with this title.

    Every user of the organisation may hear what is in it. Harmless to repeat.

    Args:
        client: The server.
        title: Title of the project, at least 3 characters; what is beyond 50 is cut off.

    Returns:
        A share of mode ``upload``.

    Raises:
        ServiceError: If the server refuses or fails.
    """
    title = title.strip()[:MAX_TITLE].strip()
    there = [
        p["id"] for p in client.find_projects(title) if p.get("description") == BOX_DESCRIPTION
    ]
    box = min(there) if there else client.create_project(title, BOX_PAGE, BOX_DESCRIPTION)["id"]
    return Share(mode="upload", prefix=client.prefix, box_project_id=box)


def upload_clips(
    client: Client, box_project_id: int, clips: Sequence[tuple[int, Path, str | None]]
) -> tuple[dict[int, str], dict[Path, str]]:
    """Upload recordings to a remote server, each content once.

    The names on the server are the contents' hashes, so an upload that is repeated or was
    interrupted sends only what is missing. What the server refuses or libsndfile can read only
    in part goes as FLAC. A faulty file is listed and the rest goes on.

    Args:
        client: The server.
        box_project_id: The project of :func:`create_box`.
        clips: Id, file and content hash of each clip; without a hash the file is read for it.

    Returns:
        URL of each clip id, and why for each file that could not be sent.

    Raises:
        ServiceError: If the server refuses or fails; repeat the call.
    """
    faults: dict[Path, str] = {}
    hashes: dict[Path, str] = {}
    for _, path, content_hash in clips:
        try:
            hashes[path] = identify(path, content_hash)
        except OSError as error:
            faults[path] = f"cannot be read ({error.strerror}); restore the file"
    kept = _find_kept(client, box_project_id)
    missing = {path: key for path, key in hashes.items() if key not in kept}
    with TemporaryDirectory(prefix="labelkit-") as folder:
        for batch in _batches(_prepare(missing, Path(folder), faults)):
            _send(client, box_project_id, batch)
            for _, path in batch:
                if path.parent == Path(folder):
                    path.unlink()
    if missing:
        kept = _find_kept(client, box_project_id)
    urls: dict[int, str] = {}
    for clip_id, path, _ in clips:
        if hashes.get(path) in kept:
            urls[clip_id] = f"{client.prefix}/data/{kept[hashes[path]]}"
            # Its content came with another file.
            faults.pop(path, None)
        else:
            faults.setdefault(path, "was sent but is not on the server; upload it again")
    return urls, faults


def identify(path: Path, content_hash: str | None) -> str:
    """Return the hash of a file's bytes: what the store says, if it may be the name of a file.

    Raises:
        OSError: If the file has to be read, and cannot be.
    """
    known = content_hash is not None and _HASH.fullmatch(content_hash)
    return content_hash if content_hash and known else hash_file(path)


def _find_kept(client: Client, box_project_id: int) -> dict[str, str]:
    """Map each content hash to its file on the server; of several to the first one."""
    kept: dict[str, str] = {}
    for upload in sorted(client.uploads(box_project_id), key=lambda upload: upload["id"]):
        # The server puts eight digits and a dash before the name; no size means no file.
        if upload["size"]:
            kept.setdefault(PurePosixPath(upload["file"]).stem[9:], upload["file"])
    return kept


def _prepare(
    missing: Mapping[Path, str], folder: Path, faults: dict[Path, str]
) -> Iterator[tuple[str, Path]]:
    """Yield name and file to send for each content hash; note the files that cannot be sent."""
    done: set[str] = set()
    for path, key in missing.items():
        if key in done:
            continue
        try:
            sent = path if _is_accepted(path) else _convert(path, folder / f"{len(done)}.flac")
            size = sent.stat().st_size
        except (InvalidInput, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
            faults[path] = f"{reason}; restore the file"
            continue
        if size > MAX_BYTES:
            faults[path] = (
                f"{size} bytes, and a request may hold {MAX_BYTES}; share the folder, or give the "
                "recordings' own http address"
            )
            continue
        done.add(key)
        yield f"{key}{sent.suffix.lower()}", sent


def _is_accepted(path: Path) -> bool:
    """Tell whether a file can be sent as it is; raises if it is no recording."""
    suffix = path.suffix.lower()
    if suffix in UNREAD:
        if not holds_sound_alone(path):
            raise InvalidInput(f"{path}: is no recording, whatever its name says")
        return True
    return suffix in ACCEPTED and bool(duration_s(path))


def _convert(path: Path, flac: Path) -> Path:
    """Write a recording as 16-bit FLAC."""
    import soundfile

    samples, rate = read_audio(path)
    if not len(samples):
        raise InvalidInput(f"{path}: holds no samples")
    try:
        soundfile.write(flac, samples, rate, subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        raise InvalidInput(f"{path}: cannot become FLAC ({error.error_string})") from error
    return flac


def _batches(files: Iterable[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    """Cut into what one request may hold."""
    batch: list[tuple[str, Path]] = []
    total = 0
    for name, path in files:
        size = path.stat().st_size
        if batch and (len(batch) == MAX_FILES or total + size > MAX_BYTES):
            yield batch
            batch, total = [], 0
        batch.append((name, path))
        total += size
    if batch:
        yield batch


def _send(client: Client, box_project_id: int, files: list[tuple[str, Path]]) -> None:
    """Upload files; a lost reply is no failure if the server has all of them."""
    try:
        client.upload(box_project_id, files)
    except ServiceError:
        kept = _find_kept(client, box_project_id)
        if any(PurePosixPath(name).stem not in kept for name, _ in files):
            raise
