"""How the browser gets the recordings: a shared folder, or their own http(s) address.

A shared folder costs nothing and copies nothing, but the server must see the same files; where
it does not, :mod:`labelkit.label_studio.uploads` sends them. Nothing here ever writes into the
audio folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from labelkit.audio.io import EXTENSIONS
from labelkit.errors import InvalidInput, LabelkitError, ServiceError
from labelkit.label_studio.access import find_origin
from labelkit.label_studio.client import Client

# Formats that a browser plays and libsndfile cannot look into.
UNREAD = (".m4a", ".mp4", ".webm")
CHECKS_AT_ONCE = 8
_NO_UTF8 = re.compile("[\ud800-\udfff]")
_ROOT = "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
_SWITCH = "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
_REMEDIES = {
    401: "check the token, or make the file readable without a login",
    403: f"start Label Studio with {_SWITCH}, or make the file readable without a login",
    404: "put the file back, correct its address, or share the folder: labelkit review init",
    416: "the file is empty, replace it",
}


@dataclass(frozen=True, kw_only=True)
class Share:
    """How the recordings of a project reach the browser, as the store keeps it.

    ``prefix`` is the path a server lies under (``/ls``, or nothing). In mode ``local``,
    ``folder`` holds the recordings below ``document_root``; in mode ``upload`` they are files
    of the project ``box_project_id``; in mode ``url`` they lie below ``base_url``.

    Example:
        >>> from dataclasses import asdict
        >>> share = Share(mode="local", document_root="/srv", folder="clips")
        >>> Share(**asdict(share)) == share
        True
    """

    mode: str
    prefix: str = ""
    document_root: str | None = None
    folder: str | None = None
    box_project_id: int | None = None
    base_url: str | None = None


def share_folder(
    client: Client,
    project_id: int,
    audio_dir: Path,
    *,
    name: str,
    document_root: Path | None = None,
) -> Share:
    """Let a server that sees the same file system serve a folder, without copying.

    A folder below the server's document root is served where it lies; any other needs
    ``document_root``, and is served through one symbolic link made there. The root that
    counts is found by asking for a recording, as the server tells it nowhere. Harmless to repeat.

    Args:
        client: The server.
        project_id: The project whose annotators may listen.
        audio_dir: The recordings; at least one must be there.
        name: Folder to make below the document root for the link, such as the project's name.
        document_root: The folder the server was told to serve from.

    Returns:
        What :func:`local_url` needs.

    Raises:
        InvalidInput: If a folder or the link cannot be used.
        ServiceError: If the server refuses the folder or does not serve it.
    """
    audio_dir = _absolute(audio_dir)
    recording = _find_recording(audio_dir)
    shared = audio = audio_dir
    if document_root is not None:
        shared, audio = _place(audio_dir, _absolute(document_root), name)
    if not any(Path(row["path"] or "") == shared for row in client.storages(project_id)):
        try:
            client.create_storage(project_id, str(shared), f"labelkit: {name}")
        except ServiceError as error:
            if document_root is not None or _ROOT not in str(error):
                raise
            raise ServiceError(
                f"{error}; or give that folder as --document-root, and labelkit makes a link in it"
            ) from None
    root = _find_document_root(client, shared, audio / recording)
    folder = audio.relative_to(root).as_posix()
    return Share(mode="local", prefix=client.prefix, document_root=str(root), folder=folder)


def _absolute(path: Path) -> Path:
    """Make a path absolute, without ``..``, symbolic links as they are, as the server compares."""
    return Path(os.path.abspath(path))


def _find_recording(audio_dir: Path) -> Path:
    """Find any recording of a folder, relative to it."""
    if not audio_dir.is_dir():
        raise InvalidInput(f"{audio_dir}: no such folder; give the folder of the recordings")
    for path in audio_dir.rglob("*"):
        if path.suffix.lower() not in EXTENSIONS + UNREAD or _NO_UTF8.search(str(path)):
            continue
        if path.is_file() and path.stat().st_size:
            return path.relative_to(audio_dir)
    raise InvalidInput(f"{audio_dir}: no recording to try the server with; put one there first")


def _place(audio_dir: Path, root: Path, name: str) -> tuple[Path, Path]:
    """Return the folder to share and the recordings in it, as paths below the document root."""
    if not root.is_dir():
        raise InvalidInput(
            f"{root}: no such folder; give the one {_ROOT} names, or upload the recordings"
        )
    for above, below in ((root, audio_dir), (root.resolve(), audio_dir.resolve())):
        if above in below.parents:
            placed = root / below.relative_to(above)
            return placed, placed
    if name in ("", ".", "..") or set(name) & set("/\\") or name != name.strip():
        raise InvalidInput(f"name {name!r} is no folder name; use letters, digits, - and _")
    shared = root / name
    if shared.resolve().is_relative_to(audio_dir.resolve()):
        raise InvalidInput(
            f"document root {root}: it is the audio folder {audio_dir} or lies in it, where "
            f"labelkit never writes; set {_ROOT} to a folder above it, {audio_dir.parent} say"
        )
    return shared, _link(shared / "audio", audio_dir)


def _link(link: Path, audio_dir: Path) -> Path:
    """Make a symbolic link to the audio folder, unless it is there already."""
    try:
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(audio_dir, target_is_directory=True)
    except FileExistsError:
        if link.resolve() != audio_dir.resolve():
            raise InvalidInput(
                f"{link}: leads to {link.resolve()}, not to {audio_dir}; if this is a copy of a "
                "project, give it another --project or --document-root"
            ) from None
    except OSError as error:
        raise InvalidInput(
            f"{link}: cannot be made ({error.strerror}); make it yourself: "
            f"ln -s '{audio_dir}' '{link}'"
        ) from None
    return link


def _find_document_root(client: Client, shared: Path, recording: Path) -> Path:
    """Find the parent of the shared folder below which the server serves a recording."""
    size = recording.stat().st_size
    # From the top down: below a wrong one, a short path is likelier to hit another file.
    for root in reversed(shared.parents):
        url = _local_path(client.prefix, recording.relative_to(root).as_posix())
        status, headers = client.fetch(url)
        if status in (200, 206) and _total_bytes(headers) == size:
            return root
    raise ServiceError(
        f"{recording}: Label Studio took the folder but does not serve the file; let the server's "
        f"user read it, and start the server with {_SWITCH} and {_ROOT} naming a folder above it"
    )


def _total_bytes(headers: Mapping[str, str]) -> int | None:
    """Return the size of a whole file after the answer to a request for its first bytes."""
    total = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "")
    return int(total) if total.isdecimal() else None


def _local_path(prefix: str, path: str) -> str:
    return f"{prefix}/data/local-files/?d={quote(path)}"


def local_url(share: Share, path: str) -> str:
    """Return the URL of a recording in a shared folder, relative to outlive a change of host.

    Args:
        share: What :func:`share_folder` returned.
        path: The clip's path, relative to the audio folder.

    Example:
        >>> share = Share(mode="local", prefix="/ls", document_root="/srv", folder="clips")
        >>> local_url(share, "rain & wind #1.wav")
        '/ls/data/local-files/?d=clips/rain%20%26%20wind%20%231.wav'
    """
    return _local_path(share.prefix, f"{share.folder}/{path}")


def web_url(share: Share, path: str) -> str:
    """Return the URL of a recording below an http(s) address.

    Args:
        share: A share of mode ``url``.
        path: The clip's path, relative to the address.

    Example:
        >>> web_url(Share(mode="url", base_url="https://example.org/clips/"), "rain #1.wav")
        'https://example.org/clips/rain%20%231.wav'
    """
    return f"{(share.base_url or '').rstrip('/')}/{quote(path)}"


def check_urls(client: Client, urls: Iterable[str], origin: str | None = None) -> dict[str, str]:
    """List the URLs a browser cannot play, several asked at a time.

    Args:
        client: The server; its own URLs may be relative.
        urls: URLs of recordings.
        origin: Where the browser finds Label Studio (``https://host``), by default the client's.

    Returns:
        Why, in one line with a remedy, for each URL that cannot be heard.
    """
    asked = list(dict.fromkeys(urls))
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        reasons = pool.map(lambda url: probe_audio(client, url, origin=origin), asked)
        return {url: reason for url, reason in zip(asked, reasons, strict=True) if reason}


def probe_audio(client: Client, url: str, *, origin: str | None = None) -> str | None:
    """Ask for the first bytes of a recording as a browser does, and say why it cannot be heard.

    A page may read a file of another host only if that host allows it (CORS), and an https
    page no http file; a login page in place of the file answers 200.

    Args:
        client: The server; its own URLs may be relative.
        url: URL of a recording.
        origin: Where the browser finds Label Studio (``https://host``), by default the client's.

    Returns:
        One line with a remedy, or None if all is well.
    """
    try:
        full, origin = urljoin(client.url, url), find_origin(origin or client.url)
        foreign = find_origin(full) not in (origin, find_origin(client.url))
        if urlsplit(full).scheme not in ("http", "https"):
            return "a browser cannot fetch it; give an http or https URL"
        if foreign and origin.startswith("https:") and full.startswith("http:"):
            return f"a page of {origin} may load no http audio; serve the recordings by https"
        status, headers = client.fetch(full, origin=origin if foreign else None)
    except LabelkitError as error:
        return str(error)
    except ValueError as error:
        return f"not a URL ({error}); give an http or https URL"
    return _find_reason(status, headers, origin if foreign else None)


def _find_reason(status: int, headers: Mapping[str, str], origin: str | None) -> str | None:
    """Say why an answer is no recording for pages of an origin; None is the same host."""
    if status not in (200, 206):
        remedy = _REMEDIES.get(status, "look into the log of its server")
        return f"the server answered {status} in place of the recording; {remedy}"
    if "html" in headers.get("content-type", ""):
        return "a web page came in place of the recording; give the URL of the file itself"
    allowed = headers.get("access-control-allow-origin")
    if origin is not None and allowed not in ("*", origin):
        return (
            f"its host lets pages of {allowed or 'no other host'} read it (CORS); let it send the "
            f"header Access-Control-Allow-Origin: {origin}"
        )
    return None
