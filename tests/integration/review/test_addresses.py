"""A token belongs to a host: it goes where its owner sent it, and not where a store says."""

import json
import stat
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import ReviewSpec
from labelkit.errors import InvalidInput, ServiceError
from labelkit.label_studio.access import find_origin, is_loopback, read_token
from labelkit.label_studio.audio import Share
from labelkit.label_studio.client import Client
from labelkit.maintenance.doctor import examine
from labelkit.personal import confirm_address, confirmed_addresses
from labelkit.project import create_project
from labelkit.records import Batch, Clip, Review, ReviewProject
from labelkit.review.pull import watch
from labelkit.review.setup import connect, find_unconfirmed, lock_review
from labelkit.stores.reviews import known_versions

TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def listener():
    """Stands at an address and writes down what comes."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(404)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """A user's configuration of the test's own, and a token."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    return tmp_path / "config" / "labelkit"


def make(tmp_path, url):
    """A project whose store says that its review is at this address."""
    (tmp_path / "p" / "audio").mkdir(parents=True)
    project, _ = create_project(tmp_path / "p", tmp_path / "p" / "audio")
    settings = {"spec": asdict(ReviewSpec(audio="url", audio_url="http://a.b/")),
                "share": asdict(Share(mode="url", base_url="http://a.b/"))}  # fmt: skip
    setup = ReviewProject(name="n", url=url, project_id=1, title="T", page="", page_hash="",
                          settings=settings)  # fmt: skip
    clip = Clip(path="a.wav", labels=("Dog",))
    with project.store.write() as session:
        session.append(Batch(key="1", kind="t", actor="a", by_person=True, classes=["Dog"],
                             clips=[clip], review_projects=[setup]))  # fmt: skip
    return project


def call(project, *words, **options):
    return CliRunner().invoke(cli, ["-C", str(project.root), *words], **options)


COMMANDS = (
    ["pull"], ["pull", "--full"], ["pull", "--watch", "1"], ["push", "--where", "true"],
    ["push", "3"], ["review", "status"], ["review", "doctor"],
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("suffix", ["/", "/studio/"])
def test_no_token_goes_where_only_the_store_says(tmp_path, listener, words, suffix):
    url, seen = listener
    project = make(tmp_path, f"{url}{suffix}")
    done = call(project, *words)
    assert not seen
    assert done.exit_code in (0, 2, 4) and "Traceback" not in done.output
    assert f"labelkit review confirm {url}" in done.output
    assert f"LABEL_STUDIO_URL={url}" in done.output and TOKEN not in done.output


@pytest.mark.parametrize("way", ["confirm", "environment", "environment with a path"])
def test_it_goes_where_its_owner_sent_it(tmp_path, listener, monkeypatch, way, mine):
    url, seen = listener
    project = make(tmp_path, f"{url}/")
    if way == "confirm":
        assert call(project, "review", "confirm", f"{url}/studio").exit_code == 0
        assert confirmed_addresses() == {url}
        assert stat.S_IMODE((mine / "addresses").stat().st_mode) == 0o600
    else:
        monkeypatch.setenv("LABEL_STUDIO_URL", url + ("/x" if "path" in way else ""))
    done = call(project, "pull")
    # The listener is no Label Studio, but it was asked, with the token.
    assert done.exit_code == 4 and f"Token {TOKEN}" in {token for _, token in seen}
    if way != "confirm":
        assert not mine.exists()


@pytest.mark.parametrize(
    "other", ["http://localhost:{}", "https://127.0.0.1:{}", "http://127.0.0.2:{}",
              "http://127.0.0.1", "http://127.0.0.1:{}.example.org"],
)  # fmt: skip
def test_another_address_is_another_one(tmp_path, listener, monkeypatch, other):
    url, seen = listener
    project = make(tmp_path, f"{url}/")
    like = other.format(url.rpartition(":")[2])
    if "example" not in like:
        confirm_address(find_origin(like))
    monkeypatch.setenv("LABEL_STUDIO_URL", like)
    done = call(project, "pull")
    assert done.exit_code == 2 and not seen and done.stderr.count("\n") == 1


def test_review_init_confirms_what_was_typed(tmp_path, listener):
    url, seen = listener
    project = make(tmp_path, "http://192.0.2.1/")
    done = call(project, "review", "init", "--url", url, "--project", "Mine")
    assert done.exit_code == 4 and seen and confirmed_addresses() == {url}
    # What the store says is confirmed by that no more than before.
    assert find_unconfirmed("http://192.0.2.1/") == "http://192.0.2.1"


def test_doctor_may_look_at_an_address_before_anything_is_set_up(tmp_path, listener):
    url, seen = listener
    (tmp_path / "q" / "audio").mkdir(parents=True)
    project, _ = create_project(tmp_path / "q", tmp_path / "q" / "audio")
    call(project, "review", "doctor", "--url", url)
    assert seen and confirmed_addresses() == set()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_somebody_at_a_terminal_is_asked_once(tmp_path, listener, monkeypatch, answer):
    url, seen = listener
    project = make(tmp_path, f"{url}/")
    monkeypatch.setattr("labelkit.commands.review.is_at_terminal", lambda: True)
    done = call(project, "pull", input=f"{answer}\n")
    assert f"This store names Label Studio at {url}. Shall your token go there?" in done.output
    assert bool(seen) == (answer == "y") and confirmed_addresses() == ({url} if seen else set())
    again = call(project, "pull", input=f"{answer}\n")
    assert ("Shall your token" in again.output) == (answer == "n")


@pytest.mark.parametrize("text", ["\0", "http://a b\n", "\xff\xfe", ""])
def test_a_damaged_list_confirms_nothing(tmp_path, listener, mine, text):
    url, _ = listener
    mine.mkdir(parents=True)
    (mine / "addresses").write_bytes(text.encode("latin-1"))
    assert find_unconfirmed(url) == url
    confirm_address(url)
    assert find_unconfirmed(url) is None


def test_where_nothing_can_be_noted_the_environment_is_named(tmp_path, mine, listener):
    url, _ = listener
    mine.parent.mkdir()
    mine.write_text("a file in the way")
    with pytest.raises(InvalidInput, match=f"set LABEL_STUDIO_URL={url} in the environment"):
        confirm_address(url)


def test_plain_http_is_told_beyond_this_machine(tmp_path, capsys):
    project = make(tmp_path, "http://192.0.2.1/")
    connect(project, "http://192.0.2.1/", given=True)
    assert "http://192.0.2.1/ is plain http: token and answers" in capsys.readouterr().err
    for url in ("http://localhost:8080", "http://127.0.0.1/x", "http://[::1]:8080",
                "https://192.0.2.1/"):  # fmt: skip
        connect(project, url, given=True)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.1.2.3/", True), ("http://a.localhost/", True), ("http://localhost.a/", False),
     ("http://127.0.0.1.a/", False), ("http://10.0.0.1/", False)],
)  # fmt: skip
def test_loopback(url, local):
    assert is_loopback(url) == local


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "ftp://a.b/",
        "http://a\u202eb/",
        "http://a.b/\x08\x08",
        "http://u:p@a.b/",
        "",
        "javascript:x",
    ],
)
def test_an_address_that_is_none_is_told(tmp_path, url):
    project = make(tmp_path, url)
    for words in (["pull"], ["review", "status"], ["review", "doctor"]):
        done = call(project, *words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
    with pytest.raises((InvalidInput, ServiceError)):
        connect(project, url)


def test_json_of_doctor_says_it(tmp_path, listener):
    url, _ = listener
    done = call(make(tmp_path, f"{url}/"), "review", "doctor", "--json")
    [found] = [row for row in json.loads(done.stdout) if row["check"] == "address"]
    assert found["ok"] is False and "review confirm" in found["what"]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o644, 0o604])
def test_a_token_file_that_others_can_read_is_told(tmp_path, monkeypatch, capsys, mode):
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(mode)
    assert read_token(file) == TOKEN
    told = capsys.readouterr().err
    assert ("can be read by others; chmod 600 it" in told) == bool(mode & 0o077)
    assert TOKEN not in told


def test_doctor_tells_who_can_read_the_addresses_of_annotators(tmp_path):
    project = make(tmp_path, "http://192.0.2.1/")
    path = project.store.path

    def found():
        return next(finding for finding in examine(project) if finding.check == "privacy")

    assert (found().state, found().what) == ("ok", "no addresses of people")
    review = Review(
        project="n", task_id=1, annotation_id=1, updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        clip_id=0, annotator_id=1, annotator="ana@example.org", answer="labels", labels=("Dog",),
        raw="{}",
    )  # fmt: skip
    with project.store.write() as session:
        session.append(Batch(key="2", kind="t", actor="ana", by_person=True, reviews=[review]))
    path.chmod(0o644)
    assert found().state == "warning" and found().remedy == f"chmod o-r {path.name}"
    assert "can read the addresses of 1 annotators" in found().what
    path.chmod(0o640)
    assert (found().state, found().what) == ("ok", "addresses of 1 annotators")


def test_versions_known_are_of_the_project_and_tasks_that_are_asked_for(tmp_path):
    project = make(tmp_path, "http://192.0.2.1/")
    reviews = [
        Review(
            project=name, task_id=task, annotation_id=10 * task, updated_at=datetime(2026, 1, task),
            clip_id=0, annotator_id=1, annotator="ana", answer=answer, labels=(), raw="{}",
        )
        for name, task, answer in (
            ("n", 1, "none"), ("n", 2, "none"), ("other", 3, "none"), ("n", 4, "task_deleted"),
        )
    ]  # fmt: skip
    with project.store.write() as session:
        session.append(Batch(key="2", kind="t", actor="ana", by_person=True, reviews=reviews))
    with project.store.read() as session:
        assert known_versions(session, "n", [1, 3, 4]) == {(10, 0): datetime(2026, 1, 1)}


def test_a_watching_pull_goes_on_after_a_server_that_hangs(tmp_path, monkeypatch):
    """Each pull ends in time, the lock is free between two, and the next one asks again."""
    asked, ended = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not ended.wait(0.05):
                    self.wfile.write(b" ")
            except OSError:
                pass

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    project = make(tmp_path, f"{url}/")
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    monkeypatch.setattr(
        "labelkit.review.setup.Client", lambda url, token: Client(url, token, timeout_s=0.4)
    )
    told = []

    def say(line):
        told.append(line)
        with lock_review(project), project.store.write():
            pass
        if len(told) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("labelkit.review.pull.say", say)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(watch(project, 0.1))
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
    assert len(asked) >= 2 and all("did not answer in time" in line for line in told)
