"""Answers of a server that are JSON, and not what was asked for."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from labelkit.errors import ServiceError
from labelkit.label_studio.client import Client

TASK = {
    "id": 1, "data": {"clip_id": 3}, "updated_at": "2026-01-01T00:00:00Z", "annotations": [],
    "predictions": [], "total_annotations": 0, "overlap": 1,
}  # fmt: skip
PROJECT = {"id": 1, "title": "Clips", "label_config": "<View/>"}
INCLUDE = ",".join(TASK)


@contextmanager
def answering(body):
    """A server that gives the same answer to everything, and counts."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()


def tasks_of(client):
    return [task for page in client.pages(1, include=INCLUDE) for task in page]


def without(row, key):
    return {name: value for name, value in row.items() if name != key}


def test_what_is_asked_for_is_taken():
    with answering(json.dumps({"tasks": [TASK], "total": 1}).encode()) as (url, _):
        assert tasks_of(Client(url, "t")) == [TASK]
    with answering(json.dumps(PROJECT).encode()) as (url, _):
        assert Client(url, "t").project(1) == PROJECT


WRONG = [
    *({"tasks": [without(TASK, key)], "total": 1} for key in TASK if key != "data"),
    *({"tasks": [TASK | {"updated_at": when}], "total": 1} for when in (3, "", "x", None, [])),
    *({"tasks": [TASK | {"id": number}], "total": 1} for number in (0, -1, "1", None, True, 1.5)),
    *({"tasks": [row], "total": 1} for row in (None, 3, "x", [], {})),
    *({"tasks": tasks, "total": 1} for tasks in (None, 3, "x", {"a": TASK})),
    *({"tasks": [TASK | {"data": data}], "total": 1} for data in (None, [], "x", 3)),
    *({"tasks": [TASK | {"annotations": rows}], "total": 1} for rows in (None, {}, [None], ["x"])),
    *({"tasks": [TASK | {"predictions": rows}], "total": 1} for rows in ([None], [{}], "x")),
    {"tasks": [TASK | {"id": 2}, TASK], "total": 2}, {"tasks": [TASK, TASK], "total": 2},
    {"tasks": [TASK]}, {"total": 1}, [], [TASK], 3, "x", None, {"tasks": [TASK], "total": "many"},
]  # fmt: skip


@pytest.mark.parametrize("body", WRONG, ids=lambda body: json.dumps(body)[:60])
def test_tasks_that_are_none_are_one_line(body):
    with answering(json.dumps(body).encode()) as (url, _):
        with pytest.raises(ServiceError, match="cannot list the tasks of project 1") as caught:
            tasks_of(Client(url, "t"))
        assert "\n" not in str(caught.value) and url in str(caught.value)


@pytest.mark.parametrize("text", ['{"tasks": [], "total": Infinity}', "[" * 100_000])
def test_numbers_and_depths_without_end(text):
    with answering(text.encode()) as (url, _), pytest.raises(ServiceError):
        tasks_of(Client(url, "t"))


def test_a_server_that_repeats_itself_comes_to_an_end():
    with answering(json.dumps({"tasks": [TASK], "total": 100}).encode()) as (url, asked):
        with pytest.raises(ServiceError):
            tasks_of(Client(url, "t"))
        assert len(asked) == 2


@pytest.mark.parametrize(
    "body", [[], {}, 3, "x", *(without(PROJECT, key) for key in PROJECT),
             *(PROJECT | {key: [1]} for key in PROJECT)],
)  # fmt: skip
def test_a_project_that_is_none_is_one_line(body):
    with answering(json.dumps(body).encode()) as (url, _):
        with pytest.raises(ServiceError, match="cannot read project 1") as caught:
            Client(url, "t").project(1)
        assert "\n" not in str(caught.value)
