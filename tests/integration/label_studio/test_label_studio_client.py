"""The client against a real Label Studio, and against a proxy that fails like a network."""

import hmac
import traceback
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from json import dumps

import pytest

from labelkit.errors import InvalidInput, LabelkitError, ServiceError
from labelkit.label_studio.access import read_token
from labelkit.label_studio.client import MAX_BYTES, Client
from tests.support.fault_proxy import (
    bad_gateway,
    delay,
    drop,
    fault_proxy,
    html,
    json,
    redirect,
    rewrite,
)

PAGE = (
    '<View><Audio name="audio" value="$audio"/><Choices name="labels" toName="audio" '
    'choice="multiple"><Choice value="Bark"/><Choice value="Rock &amp; roll"/></Choices></View>'
)
REFRESH = "/api/token/refresh/"
# What no message may hold; "hush" stands for whatever else is secret.
SECRETS = ("sessionid", "csrftoken", "<html", "<!doctype", "eyJ", "hush")


def choose(*labels):
    value = {"choices": list(labels)}
    return [{"from_name": "labels", "to_name": "audio", "type": "choices", "value": value}]


def make_tasks(n, first=1):
    return [{"data": {"audio": f"/{i}.wav", "clip_id": i}} for i in range(first, first + n)]


def fails(call, *words, error=ServiceError, secrets=()):
    """The call fails with one line that has these words, and nothing leaks."""
    try:
        call()
    except LabelkitError as caught:
        assert type(caught) is error, caught
        message, trace = str(caught), traceback.format_exc()
        for text in (message, repr(caught), trace):
            for secret in (*SECRETS, *secrets):
                assert secret.lower() not in text.lower(), secret
    else:
        pytest.fail("no error")
    assert len(message.splitlines()) == 1 and len(message) < 900
    for word in words:
        assert word in message, message
    # What httpx raised, which holds the request, is not shown as a cause either.
    assert "httpx." not in trace and "During handling" not in trace
    return message


@pytest.fixture(scope="module")
def client(label_studio):
    return Client(label_studio.url, label_studio.token)


@pytest.fixture
def project(client):
    made = client.create_project("client tests", PAGE, "made by a test")["id"]
    yield made
    client._ask("tidy up", "DELETE", f"api/projects/{made}/", gone_ok=True)


@pytest.fixture
def proxy(label_studio):
    with fault_proxy(label_studio.url) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy, label_studio):
    return Client(proxy.url, label_studio.token)


def list_ids(client, project, **options):
    pages = client.pages(project, include="id", **options)
    return [task["id"] for page in pages for task in page]


# -- the token and the URL, before anything is sent


def test_read_token_from_all_places(monkeypatch, tmp_path):
    for name in ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    fails(read_token, "Personal Access Token", "LABEL_STUDIO_API_KEY", error=InvalidInput)
    file = tmp_path / "token"
    file.write_text("from-file\n")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY_FILE", str(file))
    assert read_token() == "from-file"
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "from-environment\n")
    assert read_token() == "from-environment"
    assert read_token(file) == "from-file"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b" \n", "empty"), (b"one\nhush", "line breaks"), (b"\xff\xfe", "no text"), (None, "No such")],
)
def test_read_token_names_what_is_wrong_with_the_file(tmp_path, content, words):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    fails(lambda: read_token(file), words, str(file), error=InvalidInput)


@pytest.mark.parametrize("token", ["", " ", "to\nken", "token\n", "to ken", "tökén"])
def test_a_token_that_is_none_is_refused_before_it_is_sent(token):
    fails(lambda: Client("http://localhost:1", token), "the token", error=InvalidInput)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://host", "http://", "http://a b", "http://host:port", "http://[",
     "http://host/?next=1", "http://host/#x", "http://host\\@other", "//host"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused(url):
    fails(lambda: Client(url, "token"), "URL of Label Studio", error=InvalidInput)


def test_a_password_in_the_url_is_refused_and_not_shown():
    url = "http://anna:hush@host"
    fails(lambda: Client(url, "token"), "password", error=InvalidInput)


# -- what the server does


def test_version_and_users(client, label_studio):
    version = client.version()
    assert version["release"].startswith("1.") and version["edition"] == "Community"
    assert "anna@example.org" in client.users().values()
    assert label_studio.token not in repr(client)


@pytest.mark.slow
def test_projects_are_found_by_their_exact_title(client, project):
    other = client.create_project("client tests 2", PAGE, "", maximum_annotations=2)
    try:
        assert project in [found["id"] for found in client.find_projects("client tests")]
        assert [found["id"] for found in client.find_projects("client tests 2")] == [other["id"]]
        assert client.find_projects("client test") == []
        assert client.project(other["id"])["maximum_annotations"] == 2
        client.update_project(other["id"], sampling="Uncertainty sampling")
        assert client.project(other["id"])["sampling"] == "Uncertainty sampling"
    finally:
        client._ask("tidy up", "DELETE", f"api/projects/{other['id']}/")


def test_the_server_s_own_words_are_passed_on(client, project):
    fails(lambda: client.create_project("x", PAGE, ""), "'x'", "400", "title: Ensure", "correct")
    fails(lambda: client.update_project(project, label_config="<View"), "400", "Start Tag View")
    fails(lambda: client.update_project(project, model_version="none"), "Model version doesn't")
    fails(lambda: client.project(10**6), "404", "No Project matches", "it is gone")
    fails(lambda: client.update_task(10**6, overlap=2), "404", "No Task matches")
    # Here the server itself answers with a page.
    fails(lambda: client.import_tasks(10**6, make_tasks(1)), "404", "the project is gone")


def test_check_page_names_labels_in_use(client, project, label_studio):
    (task,) = client.import_tasks(project, make_tasks(1))
    label_studio.annotator().submit(task, choose("Bark"))
    client.check_page(project, PAGE.replace('"Bark"/>', '"Bark"/><Choice value="Meow"/>'))
    without = PAGE.replace('<Choice value="Bark"/>', "")
    fails(lambda: client.check_page(project, without), "Bark", "annotations", "400", "correct")
    fails(lambda: client.check_page(project, "<View"), "Start Tag View", "400")


def test_storages(client, project, label_studio):
    folder = label_studio.documents / "client-tests"
    folder.mkdir()
    made = client.create_storage(project, str(folder), "labelkit")
    assert [row["id"] for row in client.storages(project)] == [made["id"]]
    root = label_studio.documents
    for path, word in ((root, "cannot be the same"), ("/etc", "must be a subdirectory")):
        fails(
            lambda path=path: client.create_storage(project, str(path), "labelkit"),
            word, "400", "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true",
        )  # fmt: skip
    fails(lambda: client.create_storage(project, str(root / "none"), "x"), "does not exist")


def test_tasks_come_back_in_the_order_sent(client, project):
    tasks = make_tasks(30)[::-1]
    ids = client.import_tasks(project, tasks)
    there = client.pages(project, include="id,data")
    clips = {task["id"]: task["data"]["clip_id"] for page in there for task in page}
    assert [clips[task] for task in ids] == [task["data"]["clip_id"] for task in tasks]
    assert client.count_tasks(project) == 30
    assert client.import_tasks(project, []) == []


def test_an_import_with_one_bad_item_says_which_and_makes_none(client, project):
    tasks = [*make_tasks(2), {"data": {"sound": "/x.wav"}}]
    fails(lambda: client.import_tasks(project, tasks), "item 2", '"audio" key is expected')
    assert client.count_tasks(project) == 0


@pytest.mark.parametrize("value", [float("nan"), "\udcff", object()])
def test_values_that_are_no_json_are_refused(client, project, value):
    tasks = [{"data": {"audio": "/x.wav", "note": value}}]
    fails(lambda: client.import_tasks(project, tasks), "cannot be sent", error=InvalidInput)
    assert client.count_tasks(project) == 0


def test_a_prediction_dropped_without_a_word_is_noticed(client, project):
    ids = client.import_tasks(project, make_tasks(2))
    rows = [
        {"task": task, "model_version": "m1", "score": 0.5, "result": choose(label)}
        for task, label in zip(ids, ("Rock & roll", "unheard of"), strict=True)
    ]
    client.import_predictions(project, rows[:1])
    fails(lambda: client.import_predictions(project, rows), "2 predictions", "took 1 of them")
    rows[1]["task"] = 10**6
    fails(lambda: client.import_predictions(project, rows), "400", 'invalid "task" field')
    client.import_predictions(project, [])


def test_update_and_delete_a_task(client, project):
    kept, deleted = client.import_tasks(project, make_tasks(2))
    assert client.update_task(kept, overlap=3)["overlap"] == 3
    client.delete_task(deleted)
    client.delete_task(deleted)
    assert list_ids(client, project) == [kept]


# -- paging


@pytest.mark.parametrize("size", [3, 7, 10, 20, 500])
def test_pages_hold_every_task_once(client, project, size):
    ids = client.import_tasks(project, make_tasks(20))
    pages = list(client.pages(project, include="id,data,annotations", size=size))
    assert [task["id"] for page in pages for task in page] == ids
    assert all(0 < len(page) <= size for page in pages)
    assert set(pages[0][0]) == {"id", "data", "annotations"}


def test_pages_are_read_one_at_a_time(proxied, proxy, project):
    proxied.import_tasks(project, make_tasks(20))
    pages = proxied.pages(project, include="id", size=5)
    next(pages)
    assert proxy.count("GET", "/api/tasks/") == 1
    assert len(list(pages)) == 3 and proxy.count("GET", "/api/tasks/") == 4


def test_pages_of_nothing(client, project):
    assert list(client.pages(project, include="id")) == []


def test_a_server_that_gives_smaller_pages_hides_nothing(proxied, proxy, project):
    ids = proxied.import_tasks(project, make_tasks(20))
    proxy.fail("GET", "/api/tasks/", rewrite("page_size=500", "page_size=6"), times=99)
    assert list_ids(proxied, project) == ids


def test_no_task_is_missed_when_others_are_deleted_meanwhile(client, project):
    ids = client.import_tasks(project, make_tasks(30))
    pages = client.pages(project, include="id", size=10)
    seen = [task["id"] for task in next(pages)]
    for task in ids[8:11]:
        client.delete_task(task)
    seen += [task["id"] for page in pages for task in page]
    assert seen == ids[:10] + ids[11:]


def test_a_project_deleted_meanwhile_is_an_error(client, project):
    client.import_tasks(project, make_tasks(30))
    pages = client.pages(project, include="id", size=10)
    next(pages)
    client._ask("delete it", "DELETE", f"api/projects/{project}/")
    fails(lambda: list(pages), f"project {project}", "404", "it is gone")


def test_only_what_changed_since(client, project, label_studio):
    ids = client.import_tasks(project, make_tasks(5))
    times = [t["updated_at"] for p in client.pages(project, include="updated_at") for t in p]
    before = datetime.fromisoformat(max(times))
    label_studio.annotator().submit(ids[2], choose("Bark"))
    assert list_ids(client, project, since=before) == [ids[2]]
    assert list_ids(client, project, since=before.astimezone(UTC).replace(tzinfo=None)) == [ids[2]]
    assert list_ids(client, project, since=datetime(2020, 1, 1)) == ids


def test_uploads_keep_every_file(client, project, tmp_path):
    files = []
    for number in range(100):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(b"RIFF" + bytes(number))
        files.append((f"hash{number}.wav", path))
    client.upload(project, files)
    rows = client.uploads(project)
    assert sorted(row["size"] for row in rows) == list(range(4, 104))
    assert all(f"upload/{project}/" in row["file"] for row in rows)
    assert client.count_tasks(project) == 0
    status, headers = client.fetch(f"/data/{rows[50]['file']}", first_bytes=10)
    assert status == 206 and headers["content-range"].startswith("bytes 0-9/")
    assert "set-cookie" not in headers


def test_uploads_that_cannot_be(client, project, tmp_path):
    sound, program = tmp_path / "a.wav", tmp_path / "a.exe"
    sound.write_bytes(b"RIFF")
    program.write_bytes(b"MZ")
    fails(lambda: client.upload(project, [("a.exe", program)]), ".exe extension", "flac")
    many = [("a.wav", sound)] * 101
    fails(lambda: client.upload(project, many), "101 files", "at most 100", error=InvalidInput)
    gone = [("a.wav", tmp_path / "gone.wav")]
    fails(lambda: client.upload(project, gone), "gone.wav", "No such file", error=InvalidInput)
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    large = [("large.wav", tmp_path / "large.wav")]
    fails(lambda: client.upload(project, large), f"{MAX_BYTES + 1} bytes", error=InvalidInput)
    assert client.uploads(project) == []


def test_a_local_file_is_fetched_as_a_browser_does(client, project, label_studio):
    folder = label_studio.documents / "fetch"
    folder.mkdir()
    (folder / "a.wav").write_bytes(bytes(5000))
    path = "/data/local-files/?d=fetch/a.wav"
    assert client.fetch(path)[0] == 404
    client.create_storage(project, str(folder), "labelkit")
    status, headers = client.fetch(path, first_bytes=64)
    assert status == 206 and headers["content-range"] == "bytes 0-63/5000"
    assert client.fetch(label_studio.url + path)[0] == 206


def test_the_token_goes_to_no_other_host(proxied, proxy, label_studio):
    with fault_proxy(label_studio.url) as other:
        assert proxied.fetch(f"{other.url}/health", origin="http://here")[0] == 200
        proxy.fail("GET", "/moved", redirect(f"{other.url}/health"))
        assert proxied.fetch("/moved")[0] == 200
        host = other.url.removeprefix("http:")
        assert proxied.fetch(f"{host}/health")[0] == 200
        assert [seen.headers.get("origin") for seen in other.seen] == ["http://here", None, None]
        assert not any("authorization" in seen.headers for seen in other.seen)
    (moved,) = [seen for seen in proxy.seen if seen.path == "/moved"]
    assert moved.headers["authorization"].startswith("Bearer ")
    assert moved.headers["range"] == "bytes=0-99"


def test_fetch_that_cannot_be(client):
    fails(lambda: client.fetch("http://127.0.0.1:9/a.wav"), "no connection", "127.0.0.1:9")
    fails(lambda: client.fetch("s3://bucket/a.wav"), "s3://bucket/a.wav", "https URL")
    fails(lambda: client.fetch("http://a\nb/"), "https URL")


# -- what networks do


@pytest.mark.parametrize("fault", [drop, bad_gateway])
def test_what_creates_is_sent_once_although_the_reply_is_lost(proxied, proxy, project, fault):
    def lost(call, pattern, path):
        proxy.fail("POST", pattern, fault)
        fails(call, "may have carried it out")
        assert proxy.count("POST", path) == 1

    lost(lambda: proxied.import_tasks(project, make_tasks(3)), "/import", r"/import\?")
    assert proxied.count_tasks(project) == 3
    (task, *_) = list_ids(proxied, project)
    row = {"task": task, "model_version": "m", "score": 0.5, "result": choose("Bark")}
    lost(lambda: proxied.import_predictions(project, [row]), "/predictions", "/import/predictions")
    title = f"lost by {fault.__name__}"
    lost(lambda: proxied.create_project(title, PAGE, ""), "/api/projects/$", "/api/projects/$")
    (made,) = proxied.find_projects(title)
    proxied._ask("tidy up", "DELETE", f"api/projects/{made['id']}/")


def test_an_upload_whose_reply_is_lost_is_sent_once(proxied, proxy, project, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    proxy.fail("POST", "/import", drop)
    fails(lambda: proxied.upload(project, [("a.wav", tmp_path / "a.wav")]), "may have")
    assert len(proxied.uploads(project)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", [drop, bad_gateway])
def test_reading_changing_and_deleting_are_tried_again(proxied, proxy, project, fault):
    (task,) = proxied.import_tasks(project, make_tasks(1))
    proxy.fail("GET", "/api/tasks/", fault)
    assert proxied.count_tasks(project) == 1
    proxy.fail("PATCH", "/api/tasks/", fault)
    assert proxied.update_task(task, overlap=2)["overlap"] == 2
    # The second time it is gone already.
    proxy.fail("DELETE", "/api/tasks/", fault)
    proxied.delete_task(task)
    assert proxied.count_tasks(project) == 0


@pytest.mark.slow
def test_a_server_that_stays_broken_is_given_up(proxied, proxy):
    proxy.fail("GET", "/api/users/", html(503), times=3)
    fails(proxied.users, "503", "/health", "log")
    assert proxy.count("GET", "/api/users/") == 3


def test_a_server_that_answers_too_late(proxy, label_studio, project):
    client = Client(proxy.url, label_studio.token, timeout_s=0.25)
    client.users()
    proxy.fail("GET", "/api/users/", delay(0.4))
    fails(client.users, "in time", "busy")
    assert proxy.count("GET", "/api/users/") == 2


@pytest.mark.slow
def test_a_server_that_is_down(label_studio):
    client = Client("http://127.0.0.1:9", label_studio.token)
    fails(client.users, "http://127.0.0.1:9/", "refused", "/health")
    legacy = Client("http://127.0.0.1:9", "0" * 40)
    fails(lambda: legacy.import_tasks(1, make_tasks(1)), "refused", secrets=["0" * 40])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (html(200), ["200 with no JSON", "URL", "proxy"]),
        (html(401), ["401 with no JSON", "login page"]),
        (html(404), ["404 with no JSON", "not at this URL"]),
        (html(413), ["413 with no JSON", "less at a time"]),
        (html(502), ["502 with no JSON", "behind its proxy"]),
        (json(200, '{"hello": 1}'), ["not Label Studio's", "URL"]),
        (json(200, '["sessionid=1"]'), ["not Label Studio's"]),
        (json(200, "null"), ["no JSON"]),
        (json(400, '{"detail": "<html>sessionid=1</html>"}'), ["400", "correct"]),
        (json(403, '{"detail": "csrftoken=1 is missing"}'), ["403, [hidden] is missing", "may"]),
        (json(403, '{"detail": "URL resolves to a reserved network address"}'), ["SSRF"]),
        (json(401, '{"detail": "Given token not valid for any token type"}'), ["clock"]),
        (json(429, '{"detail": "Request was throttled."}'), ["429, Request was", "wait"]),
        (redirect("https://elsewhere/login?token=hush"), ["302", "https://elsewhere/login;"]),
    ],
)
@pytest.mark.parametrize("path", [REFRESH, "/import/predictions"])
def test_what_other_servers_answer(proxied, proxy, fault, words, path):
    proxy.fail("POST", path, fault)
    fails(lambda: proxied.import_predictions(1, [{"task": 1}]), *words)


def test_a_token_echoed_by_another_service_is_hidden(proxied, proxy, label_studio):
    echo = f'{{"detail": "no such thing: {label_studio.token}", "json": "{label_studio.token}"}}'
    for status in (200, 400):
        proxy.fail("POST", REFRESH, json(status, echo))
        fails(proxied.version, str(status), secrets=[label_studio.token, label_studio.token[:20]])


def test_a_legacy_token_echoed_is_hidden(proxy):
    token = "0123456789" * 4
    proxy.fail("GET", "/api/users/", json(400, f'{{"detail": "bad header Token {token}"}}'))
    fails(Client(proxy.url, token).users, "bad header Token [hidden]", secrets=[token])


def test_behind_a_sub_path(label_studio, client, project):
    with fault_proxy(label_studio.url, prefix="/ls") as proxy:
        for url in (proxy.url, proxy.url + "/"):
            behind = Client(url, label_studio.token)
            assert behind.users() == client.users()
            assert len(behind.import_tasks(project, make_tasks(1))) == 1
            assert behind.fetch("health")[0] == 200
            assert behind.fetch("/ls/health")[0] == 200
            assert behind.fetch("/health")[0] == 404
        root = Client(proxy.url.removesuffix("/ls"), label_studio.token)
        fails(root.users, "404", "not at this URL")


# -- tokens


def forge(**claims):
    """A JSON web token that another key signed."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"token_type": "refresh", **claims}]
    text = ".".join(encode(dumps(part).encode()) for part in parts)
    return f"{text}.{encode(hmac.digest(b'k' * 40, text.encode(), 'sha256'))}"


def encode(content):
    return urlsafe_b64encode(content).decode().rstrip("=")


def test_the_access_token_is_renewed_before_it_ends(proxied, proxy, monkeypatch):
    for _ in range(3):
        proxied.users()
    assert proxy.count("POST", REFRESH) == 1
    # It lives five minutes.
    monkeypatch.setattr("labelkit.label_studio.access.EARLY", timedelta(seconds=310))
    proxied.users()
    proxied.fetch("health")
    assert proxy.count("POST", REFRESH) == 3


@pytest.mark.parametrize("token", ["rubbish", "0" * 40, forge(exp=2**33)])
def test_a_wrong_token(label_studio, token):
    client = Client(label_studio.url, token)
    fails(client.users, "401", "nvalid", "Personal Access Token", secrets=[token])
    fails(lambda: list(client.pages(1, include="id")), "401", secrets=[token])


@pytest.mark.slow
def test_a_blacklisted_token(label_studio):
    old = label_studio.sign_up("blacklisted@example.org")
    client = Client(label_studio.url, old)
    client.users()
    label_studio.session("blacklisted@example.org").token()
    fails(Client(label_studio.url, old).users, "blacklisted", "Personal Access", secrets=[old])


def test_a_legacy_token(label_studio):
    token = label_studio.session().json("GET", "/api/current-user/token")["token"]
    client = Client(label_studio.url, token)
    fails(client.users, "401", "legacy token", "Personal Access Token", secrets=[token])
