"""A real Label Studio for tests: its own process on a free loopback port, its own data folder.

The first start of a version migrates a database, which takes half a minute; that folder is
kept as a template, and every later server starts on a copy of it. ``make label-studio``
installs the server and makes the template.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.support import shared
from tests.support.paths import ROOT

EMAIL, PASSWORD = "anna@example.org", "correct-horse-1"
START_S = 240
SHARED = "label-studio"
# A process that nobody refers to warns that it is still running.
_kept = []


def binary():
    """The label-studio command: of ``make label-studio``, or the one named by a variable."""
    named = os.environ.get("LABELKIT_LABEL_STUDIO")
    path = Path(named) if named else ROOT / ".label-studio" / "venv" / "bin" / "label-studio"
    if not path.exists():
        raise FileNotFoundError(
            f"no Label Studio at {path}; make it with `make label-studio`, or let "
            "LABELKIT_LABEL_STUDIO name one"
        )
    return path


def _client(url, **options):
    """No connection is kept open, so none is left behind."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, limits=limits, timeout=60, **options)


class Session:
    """A logged-in session as a browser has it, for what only a page may do."""

    def __init__(self, url):
        self.http = _client(url, follow_redirects=True)

    def form(self, path, values):
        """Fill in a form; the URL it leads to."""
        self.http.get(path).raise_for_status()
        values = {"csrfmiddlewaretoken": self.http.cookies["csrftoken"], **values}
        page = self.http.post(path, data=values, headers={"Referer": str(self.http.base_url)})
        return str(page.raise_for_status().url)

    def json(self, method, path, body=None):
        """Call the API with the session's cookie."""
        headers = {
            "Referer": str(self.http.base_url),
            "X-CSRFToken": self.http.cookies["csrftoken"],
        }
        answer = self.http.request(method, path, json=body, headers=headers).raise_for_status()
        return answer.json() if answer.content else None

    def log_in(self, email=EMAIL, password=PASSWORD):
        """Log in by the form; a wrong password shows the form again, with status 200."""
        where = self.form("/user/login/", {"email": email, "password": password})
        assert "/user/login" not in where, f"no login as {email}"
        return self

    def token(self):
        """A new personal access token; one that was there before is blacklisted."""
        for old in self.json("GET", "/api/token/"):
            self.json("POST", "/api/token/blacklist/", {"refresh": old["token"]})
        return self.json("POST", "/api/token/", {})["token"]


class Server:
    """A running server; ``documents`` is the folder its local files lie below."""

    def __init__(self, url, token, documents):
        self.url, self.token, self.documents = url, token, documents

    def session(self, email=EMAIL, password=PASSWORD):
        """A logged-in session."""
        return Session(self.url).log_in(email, password)

    def sign_up(self, email, password=PASSWORD):
        """A further user's personal access token."""
        invitation = self.session().json("GET", "/api/invite")["invite_url"]
        guest = Session(self.url)
        guest.form(
            re.sub(r"^https?://[^/]+", "", invitation),
            {"email": email, "password": password, "how_find_us": "", "elaborate": ""},
        )
        return guest.token()

    def annotator(self, email=None):
        """The first user, or a new one, at work through the API."""
        return Annotator(self.url, self.sign_up(email) if email else self.token)


class _Access(httpx.Auth):
    """A personal access token buys an access token that lives five minutes."""

    requires_response_body = True

    def __init__(self, url, token):
        self.url, self.token, self.access = url, token, "none"

    def auth_flow(self, request):
        request.headers["Authorization"] = f"Bearer {self.access}"
        answer = yield request
        if answer.status_code == 401:
            bought = yield httpx.Request(
                "POST", f"{self.url}/api/token/refresh/", json={"refresh": self.token}
            )
            self.access = bought.raise_for_status().json()["access"]
            request.headers["Authorization"] = f"Bearer {self.access}"
            yield request


class Annotator:
    """A user of the API: gets tasks and answers them, as the page in the browser does."""

    def __init__(self, url, token):
        self.http = _client(url, auth=_Access(url, token))

    def json(self, method, path, body=None, **params):
        """Call the API; a refusal raises with the server's words."""
        answer = self.http.request(method, path, json=body, params=params or None)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def next_task(self, project):
        """The task the queue shows next, or None when the queue is empty."""
        answer = self.http.get(f"/api/projects/{project}/next")
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def submit(self, task_id, result, *, lead_time=1.5, **fields):
        """Answer a task; ``fields`` are further ones of an annotation. The annotation."""
        body = {"result": result, "lead_time": lead_time, **fields}
        return self.json("POST", f"/api/tasks/{task_id}/annotations/", body)

    def skip(self, task_id, result=()):
        """Skip a task; the page sends along what was ticked when Skip was pressed."""
        return self.submit(task_id, list(result), was_cancelled=True)

    def edit(self, annotation_id, result, **fields):
        """Change an answer."""
        return self.json(
            "PATCH", f"/api/annotations/{annotation_id}/", {"result": result, **fields}
        )

    def delete(self, annotation_id):
        """Take an answer back."""
        self.json("DELETE", f"/api/annotations/{annotation_id}/")


def answer(labels=(), *, verdict=(), comment=None, origin=None):
    """A result as the page sends it: ticked classes, ticked verdicts and a comment."""
    items = [
        ("labels", "choices", {"choices": list(labels)}),
        (
            "verdict",
            "choices",
            {"choices": list(verdict)},
        ),
        ("comment", "textarea", {"text": [comment] if comment else []}),
    ]
    return [
        {"from_name": name, "to_name": "audio", "type": kind, "value": value}
        | ({"origin": origin} if origin else {})
        for name, kind, value in items
        if any(value.values())
    ]


def _environment(data, documents, url):
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("LABEL_STUDIO")},
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(documents),
        "LABEL_STUDIO_HOST": url,
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def _start(data, documents, extra=()):
    """Start a server and wait until it answers; its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [binary(), "start", "--internal-host", "127.0.0.1", "--port", str(port)]
    with (data / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--no-browser", *extra],
            env=_environment(data, documents, url),
            stdout=log,
            stderr=log,
            cwd=data,
        )
    try:
        _wait(url, process, data / "server.log")
    except BaseException:
        _stop(process)
        raise
    return url, process


def _stop(process):
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _running(data, documents, extra=()):
    url, process = _start(data, documents, extra)
    try:
        yield url
    finally:
        _stop(process)


def _wait(url, process, log):
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"Label Studio did not start:\n{log.read_text(errors='replace')[-2000:]}")


def template():
    """A migrated data folder with one user and her token, made once a version."""
    made = binary()
    version = subprocess.run(
        [made.parent / "python", "-c", "import label_studio; print(label_studio.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    folder = Path(os.environ.get("LABELKIT_LABEL_STUDIO_CACHE", ROOT / ".label-studio")) / version
    if not (folder / "token").exists():
        partial = folder.with_name(f"{version}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        user = ("--username", EMAIL, "--password", PASSWORD)
        with _running(partial, partial, user) as url:
            token = Server(url, "", partial).session().token()
        (partial / "token").write_text(token)
        try:
            partial.rename(folder)
        except OSError:
            # Another process made it first.
            shutil.rmtree(partial)
    return folder


def _lay_out(folder):
    """A fresh copy of the template and a folder for documents, below ``folder``."""
    data = Path(folder) / f"data-{secrets.token_hex(4)}"
    shutil.copytree(template(), data)
    documents = Path(folder) / "documents"
    documents.mkdir(exist_ok=True)
    return data, documents


@contextmanager
def running_server(folder):
    """A server of one's own."""
    data, documents = _lay_out(folder)
    with _running(data, documents) as url:
        yield Server(url, (data / "token").read_text(), documents)


def shared_server():
    """The server of this run of the suite; the first who asks starts it."""

    def make(folder):
        data, documents = _lay_out(folder)
        url, process = _start(data, documents)
        _kept.append(process)
        return url, (data / "token").read_text(), documents, process.pid

    _, (*server, _) = shared.once(SHARED, make)
    return Server(*server)


def stop_shared_server():
    """End it, if anybody asked for it, and wait until it is gone."""
    made = shared.made(SHARED)
    if made is not None:
        *_, pid = made
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and _is_running(pid):
                time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)


def _is_running(pid):
    """Whether a process works on; one of our own that has ended is cleared away."""
    with suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
    os.kill(pid, 0)
    return True


if __name__ == "__main__":
    template()
