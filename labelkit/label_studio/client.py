"""The Label Studio server: each call that labelkit makes, each failure as one clear line.

Label Studio's own client, label-studio-sdk, is not used: it hides a project that is gone while
paging, sends a POST whose reply was lost a second time, holds cookies in its errors, and sends
access tokens that end on their way.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload
from urllib.parse import urlsplit

from labelkit.errors import InvalidInput, ServiceError, needing
from labelkit.label_studio import retries
from labelkit.label_studio.access import Credentials, check_token, check_url, find_origin
from labelkit.label_studio.bounds import receive, within
from labelkit.label_studio.failures import Failures, read_json
from labelkit.label_studio.shapes import check_project, check_storage, check_tasks

if TYPE_CHECKING:
    import httpx

# What the extra `review` brings.
PACKAGES = ("httpx",)
# A server takes its time over large imports; none of them is sent a second time.
SLOW_S = 300.0
# Uploads get the time that they take at this many bytes a second, besides.
SLOWEST_BYTES_S = 50_000
# How often a request is sent again that fails in a way that may pass.
RETRIES = 2
# The server answers 500 to more files in one request, and to a whole request, part headers and
# all, above 250 MiB.
MAX_FILES, MAX_BYTES = 100, 240 * 2**20
# Of these the server needs no look at annotations, which is several times as fast.
TASK_FIELDS = {"id", "data", "updated_at"}

Found = TypeVar("Found")


class Client:
    """A Label Studio server, as one user of it.

    A method that fails raises one :class:`~labelkit.errors.ServiceError`. Reading, changing
    and deleting by id are tried again when the server fails; what creates something is sent
    exactly once, and may have been carried out although it failed: look before sending again.

    Args:
        url: Where Label Studio is served, with its sub-path if it has one.
        token: A personal access token, or a legacy one.
        timeout_s: How long to wait for an answer, the whole of it, in seconds.

    Raises:
        InvalidInput: If the URL or the token cannot be one.
        ServiceError: If the token has expired.

    Example:
        >>> Client("localhost:8080", "abc")
        Traceback (most recent call last):
        labelkit.errors.InvalidInput: 'localhost:8080' is no URL of Label Studio; give it like
        http://localhost:8080 or https://example.org/label-studio
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = 60.0) -> None:
        self.url = check_url(url)
        # The path that the server lies under, without its last slash.
        self.prefix = urlsplit(self.url).path.rstrip("/")
        self._failures = Failures(self.url, check_token(token))
        with needing("Label Studio", "review", *PACKAGES):
            import httpx

        # A redirect would make a GET of a POST, and may take the token to another host.
        self._http = httpx.Client(timeout=timeout_s, follow_redirects=False)
        # For files, wherever they lie: this one knows no token.
        self._browser = httpx.Client(timeout=timeout_s, follow_redirects=True)
        weakref.finalize(self, self._http.close)
        weakref.finalize(self, self._browser.close)
        self._timeout_s = timeout_s
        self._credentials = Credentials(
            self._http, self.url, token, self._failures, deadline_s=timeout_s
        )

    def version(self) -> dict[str, str]:
        """Return release and edition of the server, under these names."""
        return self._ask(
            "read the version", "GET", "api/version/",
            take=lambda got: {
                "release": got["release"], "edition": got.get("edition", "Community")
            },
        )  # fmt: skip

    def users(self) -> dict[int, str]:
        """Return e-mail addresses of all users by their id."""
        return self._ask(
            "list the users", "GET", "api/users/",
            take=lambda got: {user["id"]: user["email"] for user in got},
        )  # fmt: skip

    def find_projects(self, title: str) -> list[dict[str, Any]]:
        """List the projects with exactly this title; a title may stand for several."""
        found: list[dict[str, Any]] = []
        for page in count(1):
            projects, more = self._ask(
                f"look for project {title!r}", "GET", "api/projects/",
                params={"title": title, "page": page, "page_size": 100},
                take=lambda got: (
                    [check_project(row) for row in got["results"]
                     if row["title"] == title.strip()],
                    got["next"],
                ),
            )  # fmt: skip
            found += projects
            if not more:
                break
        return found

    def project(self, project_id: int) -> dict[str, Any]:
        """Return a project with all its settings."""
        return self._ask(
            f"read project {project_id}", "GET", f"api/projects/{project_id}/", take=check_project
        )

    def create_project(
        self, title: str, page: str, description: str, **settings: Any
    ) -> dict[str, Any]:
        """Create a project on a labelling page; ``settings`` under Label Studio's names."""
        fields = {"title": title, "label_config": page, "description": description, **settings}
        return self._ask(
            f"create project {title!r}", "POST", "api/projects/", json=fields, take=check_project
        )

    def update_project(self, project_id: int, **fields: Any) -> dict[str, Any]:
        """Change settings of a project, given under Label Studio's names."""
        return self._ask(
            f"change project {project_id}", "PATCH", f"api/projects/{project_id}/", json=fields
        )

    def check_page(self, project_id: int, page: str) -> None:
        """Refuse a page that lacks a label which annotations of the project have.

        Label Studio itself takes such a page when a project is changed.
        """
        self._ask(
            f"use the new page in project {project_id}", "POST",
            f"api/projects/{project_id}/validate/", json={"label_config": page},
            hint="correct the answers that have these labels in Label Studio, or bring them into "
            "the vocabulary; or give another --project",
        )  # fmt: skip

    def storages(self, project_id: int) -> list[dict[str, Any]]:
        """List the local folders a project may serve files from."""
        return self._ask(
            f"list the storages of project {project_id}", "GET", "api/storages/localfiles/",
            params={"project": project_id}, take=lambda got: [check_storage(row) for row in got],
        )  # fmt: skip

    def create_storage(self, project_id: int, path: str, title: str) -> dict[str, Any]:
        """Let a project serve the files below a folder of the server's machine."""
        return self._ask(
            f"let project {project_id} serve {path!r}", "POST", "api/storages/localfiles/",
            json={"project": project_id, "path": path, "title": title, "use_blob_urls": True},
            hint="the folder must lie on the server's machine, below its "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT and not be it, and Label Studio be started "
            "with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true",
        )  # fmt: skip

    def pages(
        self,
        project_id: int,
        *,
        include: str,
        since: datetime | None = None,
        size: int = 500,
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield tasks of a project in the order of their ids, page after page.

        Each page begins behind the last id of the one before, so that none is missed when
        tasks are deleted meanwhile; a project that is gone is an error, not the end.

        Args:
            project_id: The project.
            include: Names of the fields of tasks, and of annotations in them, with commas.
            since: Only tasks changed after this time of the server; UTC if it has no zone.
            size: Tasks a page, at most.

        Yields:
            Tasks as the server gives them, never an empty page.

        Raises:
            ServiceError: If the server fails or the project is gone.
        """
        names = {"id", *include.split(",")}
        conditions = []
        if since is not None:
            since = since.astimezone(UTC) if since.tzinfo else since
            stamp = since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            conditions.append(_condition("updated_at", "greater", "Datetime", stamp))
        params = {
            "project": project_id,
            "page": 1,
            "page_size": size,
            "fields": "task_only" if names <= TASK_FIELDS else "all",
            "include": ",".join(sorted(names)),
        }
        last = 0
        while True:
            items = [_condition("id", "greater", "Number", last), *conditions]
            query = {
                "filters": {"conjunction": "and", "items": items},
                "ordering": ["tasks:id"],
            }
            tasks, total = self._ask(
                f"list the tasks of project {project_id}", "GET", "api/tasks/",
                params={**params, "query": json.dumps(query, separators=(",", ":"))},
                take=partial(_take_tasks, names=names, after=last),
            )  # fmt: skip
            if tasks:
                yield tasks
            # A server may give smaller pages than asked for: only the total says what is left.
            if not tasks or len(tasks) >= total:
                return
            last = tasks[-1]["id"]

    def count_tasks(self, project_id: int) -> int:
        """Count the tasks of a project that are of a clip; others may have tasks there, too."""
        ours = _condition("data.clip_id", "empty", "Number", False)
        query = {"filters": {"conjunction": "and", "items": [ours]}}
        return self._ask(
            f"count the tasks of project {project_id}", "GET", "api/tasks/",
            params={
                "project": project_id, "page": 1, "page_size": 1, "fields": "task_only",
                "include": "id", "query": json.dumps(query, separators=(",", ":")),
            },
            take=lambda got: int(got["total"]),
        )  # fmt: skip

    def last_change(self, project_id: int) -> str | None:
        """Return when a project's tasks last changed, in the server's words; None without any."""
        query = {"ordering": ["-tasks:updated_at"]}
        return self._ask(
            f"read the last change of project {project_id}", "GET", "api/tasks/",
            params={
                "project": project_id, "page": 1, "page_size": 1, "fields": "task_only",
                "include": "id,updated_at", "query": json.dumps(query, separators=(",", ":")),
            },
            take=lambda got: (
                check_tasks(got["tasks"], ("id", "updated_at"), after=0)[0]["updated_at"]
                if got["tasks"] else None
            ),
        )  # fmt: skip

    def task(self, task_id: int) -> dict[str, Any] | None:
        """Return a task with its annotations and drafts; None if it is gone."""
        return self._ask(f"read task {task_id}", "GET", f"api/tasks/{task_id}/", gone_ok=True)

    def import_tasks(self, project_id: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        """Send new tasks, with their predictions; their ids in the same order.

        Sending the same tasks twice makes them twice.
        """
        if not tasks:
            return []
        what = f"send {len(tasks)} tasks to project {project_id}"
        ids = self._ask(
            what, "POST", f"api/projects/{project_id}/import", params={"return_task_ids": True},
            json=tasks, timeout_s=SLOW_S, take=lambda got: list(got["task_ids"]),
        )  # fmt: skip
        if len(ids) != len(tasks):
            raise ServiceError(
                f"cannot {what}: {self.url} made {len(ids)} of them; look which are there before "
                "sending the others again"
            )
        return ids

    def import_predictions(self, project_id: int, rows: Sequence[dict[str, Any]]) -> None:
        """Add predictions to tasks that are there; each row names its task.

        Label Studio leaves out, without a word, rows whose labels are not on the page.
        """
        if not rows:
            return
        what = f"send {len(rows)} predictions to project {project_id}"
        created = self._ask(
            what, "POST", f"api/projects/{project_id}/import/predictions", json=rows,
            timeout_s=SLOW_S, take=lambda got: int(got["created"]),
        )  # fmt: skip
        if created != len(rows):
            raise ServiceError(
                f"cannot {what}: {self.url} took {created} of them; the others hold a label or a "
                "score that does not fit the project's page"
            )

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete a prediction; one that is gone already is no error."""
        self._ask(
            f"delete prediction {prediction_id}", "DELETE", f"api/predictions/{prediction_id}/",
            gone_ok=True,
        )  # fmt: skip

    def model_versions(self, project_id: int) -> list[str]:
        """List the model versions of which a project has predictions."""
        return self._ask(
            f"list the model versions of project {project_id}", "GET",
            f"api/projects/{project_id}/model-versions/", take=list,
        )  # fmt: skip

    def update_task(self, task_id: int, **fields: Any) -> dict[str, Any]:
        """Change fields of a task, given under Label Studio's names."""
        return self._ask(f"change task {task_id}", "PATCH", f"api/tasks/{task_id}/", json=fields)

    def delete_task(self, task_id: int) -> None:
        """Delete a task with its annotations; one that is gone already is no error."""
        self._ask(f"delete task {task_id}", "DELETE", f"api/tasks/{task_id}/", gone_ok=True)

    def upload(self, project_id: int, files: Sequence[tuple[str, Path]]) -> None:
        """Upload files in one request; makes no tasks.

        The page of the project must name a single key of the task data.

        Args:
            project_id: The project.
            files: Name and path of each, at most 100 of together 240 MiB; Label Studio puts
                eight digits and a dash before the name.

        Raises:
            ServiceError: If the server fails or refuses.
            InvalidInput: If a file cannot be read, or there are too many or too large ones.
        """
        what = f"upload {len(files)} files to project {project_id}"
        with ExitStack() as opened:
            try:
                streams = [opened.enter_context(path.open("rb")) for _, path in files]
            except OSError as error:
                raise InvalidInput(
                    f"cannot {what}: {error.filename}: {error.strerror}; leave it out"
                ) from None
            size = sum(os.fstat(stream.fileno()).st_size for stream in streams)
            if len(files) > MAX_FILES or size > MAX_BYTES:
                raise InvalidInput(
                    f"cannot {what}: {size} bytes in one request; at most {MAX_FILES} files of "
                    f"together {MAX_BYTES} bytes are taken"
                )
            # A field name that comes twice would keep only its last file.
            parts = {f"file{n}": (files[n][0], stream) for n, stream in enumerate(streams)}
            taken = self._ask(
                what, "POST", f"api/projects/{project_id}/import",
                params={"commit_to_project": "false"}, files=parts,
                timeout_s=SLOW_S + size / SLOWEST_BYTES_S,
                take=lambda got: len(got["file_upload_ids"]),
                hint="Label Studio takes wav, mp3, flac, m4a and ogg, into a project whose page "
                "names a single key of the data",
            )  # fmt: skip
        if taken != len(files):
            raise ServiceError(f"cannot {what}: {self.url} took {taken} of them; try again")

    def uploads(self, project_id: int) -> list[dict[str, Any]]:
        """List uploads: ``id``, ``file`` as ``upload/<project>/<name>``, ``size`` in bytes."""
        return self._ask(
            f"list the uploads of project {project_id}", "GET",
            f"api/projects/{project_id}/file-uploads", params={"all": "true"},
            take=lambda got: [{key: row[key] for key in ("id", "file", "size")} for row in got],
        )  # fmt: skip

    def fetch(
        self, url_or_path: str, *, first_bytes: int = 100, origin: str | None = None
    ) -> tuple[int, dict[str, str]]:
        """Ask for the beginning of a file as a browser on this server's pages would.

        The token goes along to this server only, never to another host, not even by a
        redirect.

        Args:
            url_or_path: A URL, or a path: from the host's root if it begins with a slash,
                otherwise below the URL of Label Studio.
            first_bytes: How much to ask for.
            origin: Page that asks, for a server that must allow it (CORS).

        Returns:
            Status and headers, their names in small letters; cookies are left out.

        Raises:
            ServiceError: If nothing answers.
        """
        import httpx

        what = f"fetch {url_or_path!r}"
        with self._failures.catch(what, repr(url_or_path)):
            base = httpx.URL(self.url)
            url = base.join(url_or_path)
            headers = {"Range": f"bytes=0-{first_bytes - 1}", "Accept-Encoding": "identity"}
            if origin is not None:
                headers["Origin"] = origin
            if find_origin(str(url)) == find_origin(str(base)):
                headers["Authorization"] = self._credentials.header(what)

            def ask() -> tuple[int, dict[str, str]]:
                with self._browser.stream("GET", url, headers=headers) as answer:
                    kept = {k: v for k, v in answer.headers.items() if k != "set-cookie"}
                    return answer.status_code, kept

            return within(self._timeout_s, ask)

    @overload
    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        *,
        take: Callable[[Any], Found],
        timeout_s: float | None = ...,
        hint: str = ...,
        **request: Any,
    ) -> Found: ...

    @overload
    def _ask(
        self, what: str, method: str, path: str, *, gone_ok: Literal[True]
    ) -> dict[str, Any] | None: ...

    @overload
    def _ask(
        self, what: str, method: str, path: str, *, json: Any = ..., hint: str = ...
    ) -> dict[str, Any]: ...

    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        *,
        take: Callable[[Any], Any] = dict,
        timeout_s: float | None = None,
        hint: str = "",
        gone_ok: bool = False,
        **request: Any,
    ) -> Any:
        """Return what ``take`` finds in the answer's JSON; messages say that ``what`` was asked."""
        once = method == "POST"
        if timeout_s is not None:
            request["timeout"] = timeout_s

        deadline_s = self._timeout_s if timeout_s is None else timeout_s

        def send() -> httpx.Response:
            headers = {"Authorization": self._credentials.header(what)}
            return receive(
                self._http, method, f"{self.url}{path}", deadline_s=deadline_s, headers=headers,
                **request,
            )  # fmt: skip

        with self._failures.catch(what, once=once):
            answer = retries.send(send, retries=0 if once else RETRIES)
        body = read_json(answer)
        if gone_ok and answer.status_code == 404 and body is not None:
            return None
        if answer.is_success and body is not None:
            try:
                return take(body)
            except (LookupError, OverflowError, TypeError, ValueError):
                # What is no answer to this is explained below.
                pass
        raise self._failures.explain(what, answer, hint=hint, once=once)


def _condition(field: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


def _take_tasks(
    got: Any, *, names: Collection[str], after: int
) -> tuple[list[dict[str, Any]], int]:
    return check_tasks(got["tasks"], names, after=after), int(got["total"])
