"""What may go wrong on the way to Label Studio: the right state, and one line with a remedy."""

import re
import shutil
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import ReviewSpec
from labelkit.errors import ServiceError
from labelkit.personal import confirm_address
from labelkit.project import open_project
from labelkit.review import push as pushing
from labelkit.review.pull import PullReport, pull
from labelkit.review.push import push
from labelkit.review.queue import Choice
from labelkit.review.setup import set_up
from tests.support.fault_proxy import bad_gateway, delay, drop, fault_proxy, html
from tests.support.label_studio_server import answer

pytestmark = pytest.mark.slow

SECRETS = re.compile(r"eyJ|sessionid|csrftoken|<html|Traceback", re.IGNORECASE)


@pytest.fixture
def proxy(label_studio):
    with fault_proxy(label_studio.url) as found:
        yield found


@pytest.fixture
def project(label_studio, proxy, verified_project, tmp_path, monkeypatch, request):
    """A copy of the trained project, its review set up through the proxy."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    shutil.copytree(verified_project[0].root, tmp_path / "project")
    found = open_project(tmp_path / "project")
    title = request.node.name.partition("[")[0][:30] + str(time.monotonic_ns())[-12:]
    spec = ReviewSpec(document_root=str(label_studio.documents))
    found.setup = set_up(found, proxy.url, title, spec)[0]
    return found


@pytest.fixture
def annotator(label_studio):
    return label_studio.annotator()


def lowest(n):
    return Choice(lowest=("lwlrap", n))


def task_ids(annotator, project):
    """Task ids by clip id, each clip once."""
    found = annotator.json("GET", "/api/tasks/", project=project.setup.project_id,
                           page_size=2000, fields="task_only")["tasks"]  # fmt: skip
    ids = {task["data"]["clip_id"]: task["id"] for task in found}
    assert len(ids) == len(found), "a clip has two tasks"
    return ids


def noted(project):
    with project.store.read() as session:
        return dict(session.rows("select clip_id, task_id from review_tasks"))


def run(project, *arguments, code):
    """A command that must fail with one line that gives nothing away."""
    result = CliRunner().invoke(cli, ["-C", str(project.root), *arguments])
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1 and not SECRETS.search(result.output), result.output
    debugged = CliRunner().invoke(cli, ["--debug", "-C", str(project.root), *arguments])
    import traceback

    if debugged.exc_info and debugged.exception:
        text = "".join(traceback.format_exception(*debugged.exc_info))
        assert not re.search(r"eyJ|sessionid|csrftoken|<html", text)
    return lines[0]


@pytest.mark.parametrize("fault", [drop, bad_gateway])
@pytest.mark.parametrize("request_", [("POST", r"/import\?"), ("POST", "import/predictions")])
def test_a_lost_reply_leaves_one_task_a_clip(
    project, proxy, annotator, monkeypatch, fault, request_
):
    monkeypatch.setattr(pushing, "CHUNK", 3)
    if "predictions" in request_[1]:
        push(project, Choice(where="clip_id < 8 and subset = 'train'"))
        with project.store.write() as session:
            session.rows("update score_rows set value = value / 2")
    proxy.fail(*request_, fault, times=2)
    report = push(project, lowest(8))[1]
    assert report.new + report.changed == 8
    ids = task_ids(annotator, project)
    assert {clip: ids[clip] for clip in noted(project)} == noted(project)
    shown = [
        [p["model_version"] for p in annotator.json("GET", f"/api/tasks/{i}/")["predictions"]]
        for i in ids.values()
    ]
    assert all(len(versions) == len(set(versions)) for versions in shown)
    assert push(project, lowest(8))[1].same == 8


def test_a_server_that_never_keeps_anything_is_given_up(project, proxy, annotator):
    proxy.fail("POST", r"/import\?", html(502), times=99)
    with pytest.raises(ServiceError, match="502"):
        push(project, lowest(3))
    assert not task_ids(annotator, project)
    assert not noted(project)


SCRIPT = """
import sys
from pathlib import Path
from labelkit.project import open_project
from labelkit.review import push
push.CHUNK = 3
push.push(open_project(Path(sys.argv[1])), push.Choice(lowest=("lwlrap", 9)))
"""


def start_push(project):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, project.root], stderr=subprocess.PIPE)


def test_a_killed_push_goes_on(project, proxy, annotator):
    proxy.fail("POST", r"/import\?", lambda request: (drop(request), time.sleep(1)))
    proxy.fail("GET", "/api/tasks/", delay(0))
    process = start_push(project)
    deadline = time.monotonic() + 60
    while not proxy.count("POST", r"/import\?") and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    time.sleep(0.5)
    assert len(task_ids(annotator, project)) in (0, 3) and not noted(project)
    report = push(project, lowest(9))[1]
    assert report.new + report.same == 9
    assert noted(project) == task_ids(annotator, project)


def test_two_pushes_at_once(project, proxy, annotator):
    first, second = start_push(project), start_push(project)
    for process in (first, second):
        assert process.communicate(timeout=120)[1] is not None and process.returncode == 0
    assert len(task_ids(annotator, project)) == 9
    assert noted(project) == task_ids(annotator, project)


def test_pushes_from_two_copies_of_a_store_at_once(project, proxy, annotator, tmp_path):
    shutil.copytree(project.root, tmp_path / "copy")
    copy = open_project(tmp_path / "copy")
    # Both have listed the project before either sends.
    proxy.fail("POST", r"/import\?", delay(2), times=2)
    first, second = start_push(project), start_push(copy)
    for process in (first, second):
        process.communicate(timeout=120)
        assert process.returncode == 0
    push(project, lowest(9))
    push(copy, lowest(9))
    assert len(task_ids(annotator, project)) == 9
    assert noted(project) == noted(copy) == task_ids(annotator, project)


def test_two_tasks_of_a_clip_that_people_worked_on_are_told(project, annotator, capsys):
    push(project, lowest(2))
    (clip_id, first), *_ = task_ids(annotator, project).items()
    task = annotator.json("GET", f"/api/tasks/{first}/")
    annotator.json("POST", f"/api/projects/{project.setup.project_id}/import",
                   [{"data": task["data"]}])  # fmt: skip
    both = annotator.json("GET", "/api/tasks/", project=project.setup.project_id,
                          fields="task_only")["tasks"]  # fmt: skip
    mine = [task["id"] for task in both if task["data"]["clip_id"] == clip_id]
    assert len(mine) == 2
    for task_id in mine:
        annotator.submit(task_id, answer(["Bell"]))
    capsys.readouterr()
    push(project, Choice(where=f"clip_id = {clip_id}"))
    assert f"{mine[0]}, {mine[1]}" in capsys.readouterr().err
    assert pull(project).labels == 2
    with project.store.read() as session:
        assert session.rows("select labels from labels_now where clip_id = ?", [clip_id]) == [
            (["Bell"],)
        ]


def test_a_project_deleted_during_a_pull(project, proxy, annotator, monkeypatch):
    from labelkit.label_studio.client import Client

    push(project, lowest(6))
    ids = task_ids(annotator, project)
    for task_id in ids.values():
        annotator.submit(task_id, answer(["Bell"]))
    whole = Client.pages

    def pages(client, *args, **kwargs):
        for page in whole(client, *args, **(kwargs | {"size": 2})):
            yield page
            annotator.json("DELETE", f"/api/projects/{project.setup.project_id}/")
            monkeypatch.setattr(Client, "pages", whole)

    monkeypatch.setattr(Client, "pages", pages)
    with pytest.raises(ServiceError, match="404"):
        pull(project)
    with project.store.read() as session:
        assert session.rows("select count(*) from reviews_now")[0][0] == 2
        assert not session.rows("select 1 from review_pulls")
        assert not session.rows("select 1 from reviews where answer = 'task_deleted'")
    message = run(project, "pull", code=4)
    assert "labelkit review init" in message or "gone" in message
    # A new project takes its place, and what was answered stays.
    spec = ReviewSpec(document_root=str(project.setup.settings["share"]["document_root"]))
    new = set_up(project, proxy.url, "the next one", spec)[0]
    assert new.project_id != project.setup.project_id and new.name != project.setup.name
    assert pull(project) == PullReport()
    with project.store.read() as session:
        assert session.rows(
            "select count(*) from labels_now where labels = ['Bell'] and source = 'review'"
        ) == [(2,)]


@pytest.fixture
def impatient(monkeypatch):
    """Pauses before a request is sent again are another test's."""
    monkeypatch.setattr("labelkit.label_studio.retries.FIRST_PAUSE_S", 0.01)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "fault, words",
    [(html(200), "no JSON"), (html(404), "404"), (html(502), "502"), (html(503), "503")],
)
def test_what_stands_before_the_server(project, proxy, fault, words):
    proxy.fail("GET", "/api/", fault, times=999)
    message = run(project, "pull", code=4)
    assert words in message and len(message) < 500
    message = run(project, "push", "--lowest-lwlrap", "3", code=4)
    assert words in message


def test_wrong_tokens(project, label_studio, monkeypatch):
    annotator_token = label_studio.sign_up(f"d{time.monotonic_ns()}@d.org")
    for token, words in [
        ("abc", "personal access token"),
        (annotator_token[:-6] + "aaaaaa", "token"),
        ("", "LABEL_STUDIO_API_KEY"),
    ]:
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
        message = run(project, "pull", code=4 if token else 2)
        assert words.lower() in message.lower()
        assert not token or token not in message
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    inside = project.root / "token.txt"
    inside.write_text(label_studio.token)
    message = run(project, "pull", "--token-file", str(inside), code=2)
    assert "lies in the project" in message


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_down(project, proxy):
    with project.store.write() as session:
        session.rows("update review_projects set url = 'http://127.0.0.1:9/'")
    confirm_address("http://127.0.0.1:9")
    for command in (["pull"], ["push", "--lowest-lwlrap", "3"]):
        message = run(project, *command, code=4)
        assert "127.0.0.1:9" in message and "running" in message
    result = CliRunner().invoke(cli, ["-C", str(project.root), "review", "status"])
    assert result.exit_code == 0 and "127.0.0.1:9" in result.output
    result = CliRunner().invoke(cli, ["-C", str(project.root), "review", "doctor"])
    assert result.exit_code == 4 and "NO" in result.output


def test_behind_a_sub_path(label_studio, verified_project, tmp_path, monkeypatch, annotator):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    shutil.copytree(verified_project[0].root, tmp_path / "project")
    project = open_project(tmp_path / "project")
    spec = ReviewSpec(document_root=str(label_studio.documents))
    with fault_proxy(label_studio.url, prefix="/ls") as proxy:
        project.setup = set_up(project, f"{proxy.url}", "below a path", spec)[0]
        push(project, lowest(3))
        (task_id, *_) = task_ids(annotator, project).values()
        audio = annotator.json("GET", f"/api/tasks/{task_id}/")["data"]["audio"]
        assert audio.startswith("/ls/data/local-files/")
        annotator.submit(task_id, answer(["Bell"]))
        assert pull(project).labels == 1
        result = CliRunner().invoke(cli, ["-C", str(project.root), "review", "doctor"])
        assert result.exit_code == 0, result.output


def test_a_link_out_of_the_audio_folder_is_not_sent_unasked(project, proxy, tmp_path, capsys):
    for name in ("0005", "0007"):
        file = project.audio_dir / "train" / f"{name}.wav"
        file.replace(tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
    (project.audio_dir / "train" / "0009.wav").replace(project.audio_dir / "0009.wav")
    (project.audio_dir / "train" / "0009.wav").symlink_to("../0009.wav")
    title = f"links {time.monotonic_ns()}"
    set_up(project, proxy.url, title, ReviewSpec(audio="upload"))
    listed = tmp_path / "list.txt"
    listed.write_text("train/0005.wav\ntrain/0007.wav\ntrain/0009.wav\n")
    clips, report = push(project, Choice(clips=listed))
    assert [clip.path for clip in clips] == ["train/0009.wav"] and report.left_out == 2
    said = capsys.readouterr().err
    assert "train/0005.wav and 1 more clips: links take it out of the audio folder" in said
    assert "--follow-links; left out" in said
    clips, report = push(project, Choice(clips=listed), follow_links=True)
    assert len(clips) == 3 and (report.left_out, report.new) == (0, 2)


def test_a_missing_recording_is_left_out_and_the_rest_goes_on(project, annotator, tmp_path, capsys):
    with project.store.write() as session:
        path = session.rows("select min(path) from clips where subset = 'train'")[0][0]
        session.rows("update clip_rows set path = 'gone.wav' where path = ?", [path])
    listed = tmp_path / "list.txt"
    listed.write_text("gone.wav\nnever.wav\ntrain/0005.wav\n")
    clips, report = push(project, Choice(clips=listed))
    assert [clip.path for clip in clips] == ["train/0005.wav"]
    assert (report.new, report.left_out) == (1, 2)
    said = capsys.readouterr().err
    assert "gone.wav" in said and "never.wav" in said
    assert len(task_ids(annotator, project)) == 1
