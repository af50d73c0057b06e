"""A server that answers slowly, for ever, or too much: the request ends, and says why."""

import gzip
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from labelkit.errors import ServiceError
from labelkit.label_studio import bounds
from labelkit.label_studio.client import Client
from labelkit.label_studio.failures import read_json

TOKEN = "0123456789abcdef0123456789abcdef01234567"
SHORT_S, PATIENCE_S = 0.6, 5


@contextmanager
def serving(answer):
    """A server on this machine whose every answer is written by ``answer``, a byte at a time."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                answer(self, ended)
            except OSError:
                pass

        do_POST = do_PATCH = do_DELETE = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


def drip(handler, ended, data=b" "):
    while not ended.wait(0.05):
        handler.wfile.write(data)
        handler.wfile.flush()


def slow_body(handler, ended):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    drip(handler, ended)


def slow_chunks(handler, ended):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(handler, ended, b"1\r\n \r\n")


def slow_headers(handler, ended):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    drip(handler, ended, b"X-A: b\r\n")


def nothing(handler, ended):
    ended.wait(10)


SLOW = (slow_body, slow_chunks, slow_headers, nothing)


@pytest.mark.parametrize("answer", SLOW)
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.project(1),
        lambda client: client.create_project("Title", "<View/>", ""),
        lambda client: client.delete_task(1),
        lambda client: next(client.pages(1, include="id")),
        lambda client: client.fetch("/a.wav"),
    ],
    ids=["read", "make", "delete", "list", "fetch"],
)
def test_an_answer_that_does_not_end_is_one_line(answer, ask):
    with serving(answer) as url:
        client = Client(url, TOKEN, timeout_s=SHORT_S)
        start = time.monotonic()
        if answer in SLOW[:2] and "fetch" in str(ask.__code__.co_names):
            # Status and headers are all that is asked of a recording.
            assert ask(client)[0] == 200
        else:
            with pytest.raises(ServiceError, match="did not answer in time") as caught:
                ask(client)
            assert "\n" not in str(caught.value)
        assert time.monotonic() - start < PATIENCE_S


@pytest.mark.parametrize("body", ["[" * 200_000, '{"a":' * 200_000, "[" * 200_000 + "]" * 200_000])
def test_what_is_nested_without_end_is_no_json(body):
    assert read_json(httpx.Response(200, content=body)) is None


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_that_is_too_large_is_not_kept(monkeypatch, packed):
    monkeypatch.setattr(bounds, "MOST_BYTES", 2**20)
    body = b'{"a": "' + b" " * 2**22 + b'"}'

    def answer(handler, ended):
        data = gzip.compress(body) if packed else body
        handler.send_response(200)
        if packed:
            handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    with serving(answer) as url, pytest.raises(ServiceError, match="it goes on after 1 MB"):
        Client(url, TOKEN, timeout_s=10).project(1)


def test_a_whole_answer_is_what_the_library_gives():
    def answer(handler, ended):
        data = gzip.compress('{"title": "é"}'.encode())
        handler.send_response(201)
        handler.send_header("Content-Type", "application/json; charset=utf-8")
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("X-Twice", "1")
        handler.send_header("X-Twice", "2")
        handler.end_headers()
        handler.wfile.write(data)

    with serving(answer) as url, httpx.Client() as http:
        found = bounds.receive(http, "GET", url, deadline_s=5)
        wanted = http.get(url)
    assert found.status_code == wanted.status_code == 201
    assert found.json() == wanted.json() == {"title": "é"} and found.is_success
    assert found.headers.get_list("x-twice") == ["1", "2"]


def test_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        bounds.within(5, lambda: 1 / 0)
    with pytest.raises(httpx.ReadTimeout):
        bounds.within(0.05, lambda: time.sleep(1))
    assert bounds.within(5, lambda: 3) == 3
