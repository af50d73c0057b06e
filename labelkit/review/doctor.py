"""What stands between the clips and an annotator's ears: everything checked, each with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelkit.errors import LabelkitError, ServiceError
from labelkit.label_studio.access import read_token
from labelkit.label_studio.audio import Share, local_url, probe_audio, web_url
from labelkit.label_studio.client import Client
from labelkit.label_studio.page import check_page
from labelkit.maintenance.findings import OK, PROBLEM, Finding
from labelkit.project import Project
from labelkit.review.setup import connect, read_setup, read_version


def examine(
    project: Project, *, url: str | None = None, token_file: Path | None = None
) -> list[Finding]:
    """Check address, token, version, project, page, storage and one recording, in this order.

    Args:
        project: Whose review.
        url: Address to check where nothing was set up yet.
        token_file: File of the token, where the environment holds none.

    Returns:
        What each check that was made found, in this order, a remedy within its words; one
        that fails may leave out later ones.
    """
    checks: list[Finding] = []

    def check(name: str, ask: Callable[[], Any], what: str | None = None) -> Any:
        """Do one check; what it raises is its finding, else ``what``, or what it returns."""
        try:
            found = ask()
        except LabelkitError as error:
            checks.append(Finding(name, PROBLEM, str(error)))
            return None
        checks.append(Finding(name, OK, what or str(found)))
        return found

    check("token", lambda: _name_token_kind(read_token(token_file)))
    setup = spec = share = None
    if url is None:
        try:
            setup, spec, share = read_setup(project)
        except LabelkitError as error:
            checks.append(Finding("set up", PROBLEM, str(error)))
            return checks
    address = setup.url if setup is not None else url or ""
    client = check(
        "address", lambda: connect(project, address, token_file, given=setup is None), address
    )
    if client is None:
        return checks
    check("version", lambda: read_version(client))
    users = check("login", client.users, "as one of the users")
    if setup is None or spec is None or share is None or users is None:
        return checks
    existing = check("project", lambda: client.project(setup.project_id), setup.title)
    if existing is None:
        return checks
    with project.store.read() as session:
        classes, several = session.classes(), session.allows_several()
        path = session.first_path()
    faults = check_page(existing["label_config"], classes, blind=spec.blind, several=several)
    checks += [Finding("page", PROBLEM, fault) for fault in faults]
    if not faults:
        what = f"{len(classes)} classes, as the vocabulary has them"
        checks.append(Finding("page", OK, what))
    if share.mode == "local":
        check("storage", lambda: _find_storage(client, setup.project_id, share))
    if path is not None:
        check("audio", lambda: _try_audio(client, setup.project_id, share, path))
    return checks


def _name_token_kind(token: str) -> str:
    """Name the kind of a personal access token, a JWT; refuse what Label Studio calls legacy."""
    if token.count(".") == 2:
        return "personal access token"
    raise ServiceError(
        "this is a legacy token, which Label Studio refuses by default; make a personal access "
        "token: Account & Settings > Personal Access Token"
    )


def _find_storage(client: Client, project_id: int, share: Share) -> str:
    for row in client.storages(project_id):
        folder = Path(row["path"] or "/nowhere")
        if Path(share.document_root or "", share.folder or "").is_relative_to(folder):
            return f"{folder}, below {share.document_root}"
    raise ServiceError(
        f"project {project_id} has no local storage for {share.document_root}/{share.folder}; "
        "make it with: labelkit review init"
    )


def _try_audio(client: Client, project_id: int, share: Share, path: str) -> str:
    """Ask for a recording as the browser will: that of a task, or of the first clip."""
    ways: dict[str, Callable[[Share, str], str]] = {"local": local_url, "url": web_url}
    way = ways.get(share.mode)
    url = way(share, path) if way else ""
    for page in client.pages(project_id, include="id,data", size=1):
        url, path = page[0]["data"].get("audio", url), page[0]["data"].get("path", path)
        break
    if not url:
        return "no task yet; recordings are uploaded when clips are pushed"
    problem = probe_audio(client, url)
    if problem:
        raise ServiceError(f"{path}: {problem}")
    return f"{path} can be heard"
