"""The project in Label Studio: made or adopted, its page kept in step with the vocabulary."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from labelkit.config import ReviewSpec, create_spec, fingerprint
from labelkit.errors import InvalidInput, NotYet, ServiceError
from labelkit.label_studio.access import check_url, find_origin, is_loopback, read_token
from labelkit.label_studio.audio import Share, share_folder
from labelkit.label_studio.client import Client
from labelkit.label_studio.page import (
    check_page,
    choice_names,
    create_page,
    page_hash,
    read_page,
)
from labelkit.label_studio.uploads import create_box
from labelkit.personal import confirm_address, confirmed_addresses
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import Batch, ReviewProject
from labelkit.stores.lock import locked
from labelkit.stores.reviews import last_project

MARK = "labelkit:"
# The first release with personal access tokens.
OLDEST_RELEASE = (1, 17)


@contextmanager
def lock_review(project: Project) -> Iterator[None]:
    """Hold the lock of a project's review: one push, pull or set-up at a time."""
    project.work.mkdir(parents=True, exist_ok=True)
    timeout_s = project.store.timeout_s
    with locked(project.work / "review", exclusive=True, timeout_s=timeout_s):
        yield


def find_unconfirmed(url: str) -> str | None:
    """Find the address of a URL, where the user's token may not go there; None where it may.

    It may go where ``labelkit review init`` or ``review confirm`` sent it, and where
    LABEL_STUDIO_URL of the environment points to.
    """
    address = find_origin(check_url(url))
    named = os.environ.get("LABEL_STUDIO_URL", "").strip()
    if named and find_origin(check_url(named)) == address:
        return None
    return None if address in confirmed_addresses() else address


def connect(
    project: Project, url: str, token_file: Path | None = None, *, given: bool = False
) -> Client:
    """Make a client of the server at ``url``.

    Args:
        project: Whose review.
        url: Address of the server.
        token_file: File of the token, where the environment holds none.
        given: The user has just given this address; otherwise it comes from the store, which may
            be somebody else's.

    Raises:
        InvalidInput: If there is no token, or it lies in the project, where it could be published;
            or if nobody confirmed that it may go to this address.
        ServiceError: If the token has expired.
    """
    unconfirmed = None if given else find_unconfirmed(url)
    if unconfirmed:
        raise InvalidInput(
            f"the store names Label Studio at {unconfirmed}, and a token goes only where its owner "
            f"sent it; confirm the address with: labelkit review confirm {unconfirmed}, or "
            f"set LABEL_STUDIO_URL={unconfirmed} in the environment"
        )
    if token_file is not None:
        check_token_file(project, token_file)
    client = Client(url, read_token(token_file))
    if client.url.lower().startswith("http:") and not is_loopback(client.url):
        say(f"{client.url} is plain http: token and answers can be read on their way; use https")
    return client


def check_token_file(project: Project, token_file: Path) -> None:
    """Refuse a token in the project, with which it could be published.

    Raises:
        InvalidInput: If it lies there.
    """
    if token_file.resolve().is_relative_to(project.root.resolve()):
        raise InvalidInput(
            f"{token_file} lies in the project, where a token could be published with it; "
            "move it elsewhere"
        )


def set_up(
    project: Project,
    url: str,
    title: str,
    spec: ReviewSpec,
    *,
    token_file: Path | None = None,
) -> tuple[ReviewProject, str]:
    """Make the project in Label Studio, or adopt one, and bring its page up to the vocabulary.

    Harmless to repeat; with other settings it changes them.

    Args:
        project: Whose clips are to be heard.
        url: Address of the server.
        title: Title of the project there, 3 to 50 characters, or the id of one that is there.
        spec: How clips get there, and how answers count.
        token_file: File of the token, where the environment holds none.

    Returns:
        The project as it is now, and what was done: made, adopted, changed or unchanged.

    Raises:
        InvalidInput: If there are no classes or clips, or settings do not fit.
        ServiceError: If the server fails or refuses.
    """
    _check_spec(spec, title)
    with lock_review(project):
        with project.store.read() as session:
            classes, last = session.classes(), last_project(session)
            first, several = session.first_batch(), session.allows_several()
        # As rows, which is what the names of projects that are there were made of.
        store = fingerprint([first] if first else [])
        if not classes:
            raise NotYet("the project has no classes; bring some in with: labelkit import FILE")
        client = connect(project, url, token_file, given=True)
        if find_unconfirmed(client.url):
            confirm_address(find_origin(client.url))
        release = read_version(client)
        if not release.startswith("Community"):
            say(f"Label Studio {release} was never tried; Community was")
        existing, name, done = _find_project(client, title, last, store)
        page = create_page(classes, blind=spec.blind, several=several)
        if existing is None:
            existing = client.create_project(
                title, page, f"{MARK}{name}", **_project_settings(spec)
            )
        else:
            kept = last.page_hash if last is not None and last.name == name else None
            faults = check_page(
                existing["label_config"], classes, blind=spec.blind, several=several
            )
            _update_project(client, existing, page, name, spec, anew=bool(faults), kept=kept)
        share = _share_audio(project, client, existing["id"], name, spec, last)
        found = ReviewProject(
            name=name,
            url=client.url,
            project_id=existing["id"],
            title=existing["title"],
            page=page,
            page_hash=page_hash(page),
            settings={"spec": asdict(spec), "share": asdict(share)},
        )
        if found == last:
            return found, "unchanged"
        _record(project, found)
    if last is not None and last.name == name and read_spec(last).blind != spec.blind:
        shown = "still carry" if spec.blind else "lack"
        say(f"clips that lie with annotators {shown} suggestions; push again to change that")
    if last is not None and last.name == name and _read_counting(last) != _read_counting(found):
        say("answers that are here are counted anew with: labelkit pull --full")
    return found, done


def find_last(project: Project) -> ReviewProject | None:
    """Find the project in Label Studio as it was set up last; None where none was."""
    with project.store.read() as session:
        return last_project(session)


def read_setup(project: Project) -> tuple[ReviewProject, ReviewSpec, Share]:
    """Read the project in Label Studio, and how clips get there and answers count.

    Raises:
        InvalidInput: If none was set up.
    """
    found = find_last(project)
    if found is None:
        raise NotYet(
            "no project in Label Studio yet; make it with: "
            "labelkit review init --url URL --project TITLE"
        )
    return found, read_spec(found), Share(**found.settings["share"])


def read_spec(setup: ReviewProject | None) -> ReviewSpec:
    """Read how answers of a project count; by default where it was never set up here."""
    return ReviewSpec() if setup is None else create_spec(ReviewSpec, setup.settings["spec"])


def _read_counting(setup: ReviewProject) -> tuple[int, str]:
    spec = read_spec(setup)
    return spec.overlap, spec.consensus


def update_page(
    project: Project, client: Client, setup: ReviewProject, spec: ReviewSpec
) -> ReviewProject:
    """Bring the page up to the vocabulary, to how many labels a clip may have, and to this version.

    One that people changed is left alone as long as its answers can be read.

    Raises:
        ServiceError: If the page on the server was changed so that answers would not fit.
    """
    with project.store.read() as session:
        classes, several = session.classes(), session.allows_several()
    existing = client.project(setup.project_id)["label_config"]
    faults = check_page(existing, classes, blind=spec.blind, several=several)
    hidden = () if _is_broken(existing) else read_page(existing).former
    page = create_page(classes, blind=spec.blind, several=several, former=hidden)
    is_ours = not _is_broken(existing) and page_hash(existing) == setup.page_hash
    if faults and not is_ours:
        more = f" ({len(faults) - 1} more: labelkit review doctor)" if len(faults) > 1 else ""
        raise ServiceError(f"project {setup.project_id}: {faults[0]}{more}")
    if not is_ours or page_hash(page) == setup.page_hash:
        return setup
    before = read_page(existing)
    try:
        client.check_page(setup.project_id, page)
    except ServiceError:
        # Answers have names that classes had before, which no page may lack.
        lost = sorted(set(before.labels) - set(choice_names(classes)))
        if not lost:
            raise
        page = create_page(classes, blind=spec.blind, several=several, former=[*hidden, *lost])
        client.check_page(setup.project_id, page)
    client.update_project(setup.project_id, label_config=page)
    if faults:
        ticked = f", of which {'several' if several else 'one'} can be ticked"
        say(
            f"the labelling page now has {len(classes)} classes"
            f"{ticked if before.several != several else ''}"
        )
    else:
        say("the labelling page is now that of this version of labelkit")
    found = replace(setup, page=page, page_hash=page_hash(page))
    _record(project, found)
    return found


def _is_broken(xml: str) -> bool:
    """Tell whether a page is no XML, which has no hash."""
    try:
        page_hash(xml)
    except InvalidInput:
        return True
    return False


def _record(project: Project, found: ReviewProject) -> None:
    with project.store.write() as session:
        number = session.last_batch()
        session.append(
            Batch(
                key=f"review_setup-{fingerprint([number, found])}",
                kind="review_setup",
                actor=user(),
                by_person=True,
                reason=f"project {found.project_id} of {found.url}: {found.title}",
                review_projects=[found],
            )
        )


def _check_spec(spec: ReviewSpec, title: str) -> None:
    if not title.isdecimal() and not 3 <= len(title.strip()) <= 50:
        raise InvalidInput(f"title {title!r} must have 3 to 50 characters")
    if (spec.audio == "url") != (spec.audio_url is not None):
        raise InvalidInput("--audio url and --audio-url ADDRESS go together; give both or none")
    if spec.audio_url is not None and not re.fullmatch(
        r"https?://[^/\s@?#]+(/[^\s@?#]*)?", spec.audio_url
    ):
        raise InvalidInput(
            "--audio-url must be an http or https address without user, password, ? and #; "
            "it is written into every task"
        )
    if spec.document_root is not None and spec.audio != "local":
        raise InvalidInput(f"--document-root is for --audio local, not {spec.audio}; leave it out")


def read_version(client: Client) -> str:
    """Read edition and release of a server.

    Raises:
        ServiceError: If it is too old to have personal access tokens.
    """
    version = client.version()
    numbers = tuple(int(part) for part in version["release"].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_RELEASE:
        raise ServiceError(
            f"Label Studio {version['release']} at {client.url} is too old; "
            "update it to 1.17 or newer"
        )
    return f"{version['edition']} {version['release']}"


def _project_settings(spec: ReviewSpec) -> dict[str, Any]:
    return {
        "sampling": "Uncertainty sampling",
        "maximum_annotations": spec.overlap,
        "show_collab_predictions": True,
        # Who hears nothing of all this says so; a slip of the hand is no answer.
        "enable_empty_annotation": False,
    }


def _find_project(
    client: Client, title: str, last: ReviewProject | None, store: str
) -> tuple[dict[str, Any] | None, str, str]:
    """Find the project on the server, its name in the store, and what is done with it.

    The name begins with what is the store's own, so that a project is known again whose
    set-up broke off before the store knew of it.
    """
    fresh = f"{store}-{uuid.uuid4().hex[:6]}"
    if title.isdecimal():
        candidates = [client.project(int(title))]
    else:
        candidates = client.find_projects(title.strip())
        if last is not None and last.url == client.url:
            candidates = [c for c in candidates if c["id"] == last.project_id] or candidates
    if not candidates:
        return None, fresh, "made"
    if len(candidates) > 1:
        ids = ", ".join(str(found["id"]) for found in candidates)
        raise InvalidInput(f"{len(candidates)} projects are called {title!r}; give an id: {ids}")
    existing = candidates[0]
    description = existing.get("description") or ""
    marked = description.partition(MARK)[2].split()[:1]
    if marked and not marked[0].startswith(f"{store}-"):
        raise InvalidInput(
            f"project {existing['id']} ({existing['title']!r}) belongs to another labelkit "
            "project; give another --project"
        )
    if marked:
        return existing, marked[0], "changed"
    return existing, fresh, "adopted"


def _update_project(
    client: Client,
    existing: dict[str, Any],
    page: str,
    name: str,
    spec: ReviewSpec,
    *,
    anew: bool,
    kept: str | None,
) -> None:
    """Give a project that is there the page, the settings and the mark.

    Args:
        client: The server.
        existing: The project there.
        page: The page it should have.
        name: The project's name in the store.
        spec: How clips get there.
        anew: Whether its page does not fit.
        kept: Hash of the page that labelkit gave it; one that nobody changed is replaced.
    """
    fields: dict[str, Any] = {
        key: value for key, value in _project_settings(spec).items() if existing.get(key) != value
    }
    description = existing.get("description") or ""
    if MARK not in description:
        fields["description"] = f"{description} {MARK}{name}".strip()
    old = existing["label_config"]
    blind = "suggested" not in old
    outdated = not anew and page_hash(old) == kept and page_hash(page) != kept
    if anew or outdated or blind != spec.blind:
        client.check_page(existing["id"], page)
        fields["label_config"] = page
    if fields:
        client.update_project(existing["id"], **fields)


def _share_audio(
    project: Project,
    client: Client,
    project_id: int,
    name: str,
    spec: ReviewSpec,
    last: ReviewProject | None,
) -> Share:
    if spec.audio == "url":
        return Share(mode="url", base_url=spec.audio_url)
    project.check_audio()
    if spec.audio == "local":
        root = Path(spec.document_root).absolute() if spec.document_root else None
        return share_folder(
            client, project_id, project.audio_dir, document_root=root, name=f"labelkit-{name}"
        )
    if last is not None and last.name == name and last.settings["share"]["mode"] == "upload":
        return Share(**last.settings["share"])
    return create_box(client, f"labelkit audio {name}")
