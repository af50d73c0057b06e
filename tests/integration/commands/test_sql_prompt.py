"""The prompt of `labelkit sql`: what it completes, how it is left, what a script does."""

import fcntl
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from labelkit.cli import cli
from labelkit.commands import prompt
from labelkit.commands.prompt import SqlCompleter
from labelkit.commands.shell import COMMANDS, Shell, is_ready
from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from labelkit.labels.query import read_names
from labelkit.project import create_project
from labelkit.stores.completion import Names
from tests.support.clips import write_csv
from tests.support.processes import children, wait_for

BOMB = "select sum(hash(range)) from range(1000000000000);"
NAMES = Names(
    relations={"labels_now": ["clip_id", "path", "labels"], "clips": ["clip_id", "duration_s"]},
    macros=["labels_at"],
    keywords=["select", "from", "where", "group", "limit"],
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("p")
    (root / "audio").mkdir()
    project, _ = create_project(root, root / "audio")
    source = write_csv(root / "x.csv", ("fname", "label"), [("a.wav", "Dog"), ("b.wav", "Cat")])
    import_labels(project, source, "csv", FormatSpec(), metadata_only=True)
    return project


def complete(before, after="", names=NAMES):
    document = Document(before + after, len(before))
    found = SqlCompleter(lambda: names).get_completions(document, CompleteEvent())
    return [completion.text for completion in found]


@pytest.mark.parametrize(
    "before, after, found",
    [
        ("sel", "", ["select"]),
        ("SEL", "", ["SELECT"]),
        ("from ", "", ["labels_now", "clips", "labels_at"]),
        ("from LA", "", ["labels_now", "labels_at"]),
        ("select * from clips c join la", "", ["labels_now", "labels_at"]),
        ("select pa", " from labels_now", ["path"]),
        ("select cl", " from labels_now join clips", ["clip_id", "clips"]),
        ("from labels_now n join clips c on n.", "", ["clip_id", "path", "labels"]),
        ("from labels_now as n where n.p", "", ["path"]),
        ("from clips c where C.d", "", ["duration_s"]),
        ("from labels_now where labels_now.l", "", ["labels"]),
        ("from labels_now where x.l", "", []),
        ("select du", "", []),
        ("from labels_now where path = 'pa", "", []),
        ("from labels_now where path = 'x' and pa", "", ["path"]),
        ("select ", "", []),
        (".", "", COMMANDS),
        (".sch", "", [".schema"]),
        (".schema c", "", ["clips"]),
        (".schema labels_", "", ["labels_now", "labels_at"]),
        (".mode c", "", ["csv"]),
        (".timeout ", "", []),
    ],
)
def test_names_are_completed_where_they_can_stand(before, after, found):
    assert complete(before, after) == found


def test_names_come_from_the_store(project):
    names = read_names(project)
    assert names.relations["clips"][:2] == ["clip_id", "path"]
    assert "labels" in names.relations["labels_now"] and "labels_at" in names.macros
    assert {"select", "from", "where", "order"} <= set(names.keywords)
    assert complete("select dur", " from clips", names) == ["duration_s"]


def test_names_are_read_again_when_the_store_was_written_to(project, monkeypatch):
    read = []
    monkeypatch.setattr(
        "labelkit.labels.query.read_names",
        lambda p, **options: read.append(p) or read_names(p, **options),
    )
    shell = Shell(project, timeout_s=10)
    first = shell.names()
    assert "clips" in first.relations and shell.names() is first and len(read) == 1
    with project.store.write():
        # While somebody writes, those from before do.
        os.utime(project.store.path)
        start = time.monotonic()
        assert shell.names() is first and time.monotonic() - start < 5
    assert shell.names() == first and len(read) == 3


@pytest.mark.parametrize(
    "text, ready",
    [
        ("", True), ("  ", True), (".help", True), ("select 1;", True), ("select 1; ", True),
        ("select 1", False), ("select ';", False), ("select ';';", True), ("select 1 -- ;", False),
        ("select 1 /* ;", False), ("select $$ ;", False), ("select 'größe';", True),
        ('select "a;', False), ("selec 1;", True), ("select 1\nfrom clips;", True),
    ],
)  # fmt: skip
def test_enter_ends_what_is_whole(text, ready):
    assert is_ready(text) is ready


def talk(project, text, capsys):
    """Type at the prompt; what was printed to stdout and stderr."""
    with create_pipe_input() as keys:
        keys.send_text(text)
        prompt.talk(Shell(project, timeout_s=60), input=keys, output=DummyOutput())
    # What was asked is for its owner alone.
    assert (project.work / "sql_history").stat().st_mode & 0o777 == 0o600
    return capsys.readouterr()


def test_a_session(project, capsys):
    typed = (
        "select path\rfrom labels_now\rorder by path;\r"  # over three lines
        ".mode json\r"
        "select 1 as one; select 2 as two;\r"
        "selec 1;\r"
        "\x03"  # Ctrl-C at the prompt
        ".mode csv\rselect 3 as three;\r"
        ".nonsense\r"
        "drop table clips;\r"
        "from nowhere\x03"
        "select 'still here' as x;\r"
        "\x04"
    )
    done = talk(project, typed, capsys)
    table, _, rest = done.out.partition("[")
    assert table.split() == ["path", "-----", "a.wav", "b.wav"]
    assert rest.replace("\r", "").split() == (
        '{ "one": 1 } ] [ { "two": 2 } ] three 3 x still here'.split()
    )
    lines = done.err.splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == (
        ["Error", "Stopped.", "Error", "Error", "Stopped."]
    )
    history = (project.work / "sql_history").read_text()
    assert "+from labels_now" in history and "+selec 1;" in history


@pytest.mark.parametrize("leave", [".quit\r", "\x04"])
def test_leaving(project, capsys, leave):
    done = talk(project, leave, capsys)
    assert done.out == ""


@pytest.mark.slow
def test_tab_completes(project, capsys):
    shell = Shell(project, timeout_s=20)
    shell.names()
    offered = threading.Event()

    def look():
        """Beside the line, drawn anew with the menu, which is made while one types."""
        state = get_app().current_buffer.complete_state
        if state and state.completions:
            offered.set()
        return ""

    with create_pipe_input() as keys:

        def type_():
            keys.send_text("select count(*) as n from class_summ")
            offered.wait(60)
            keys.send_text("\t;\r\x04")

        typing = threading.Thread(target=type_)
        typing.start()
        prompt.talk(shell, input=keys, output=DummyOutput(), rprompt=look)
        typing.join()
    assert offered.is_set()
    done = capsys.readouterr()
    assert "Error" not in done.err and done.out.split() == ["n", "-", "2"]


@pytest.fixture
def ctrl_c():
    """Ctrl-C works, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_a_statement_and_stays(project, capsys):
    before = children(os.getpid())

    def is_at_it():
        # Names to complete with take another process, but not for so long.
        return any(busy_s(pid) > 1.5 for pid in {*children(os.getpid())} - {*before})

    def interrupt():
        wait_for(is_at_it, 60)
        os.kill(os.getpid(), signal.SIGINT)

    watching = threading.Thread(target=interrupt)
    watching.start()
    done = talk(project, f"{BOMB}\rselect 'still here' as x;\r\x04", capsys)
    watching.join()
    assert "Stopped.\n" in done.err and "still here" in done.out
    wait_for(lambda: children(os.getpid()) == before, 20)
    # Between statements the store is free.
    with project.store.write():
        pass


def busy_s(pid):
    """Seconds of processor time; none once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def script(project, text, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), "sql", *args], input=text)


def test_a_script_runs_up_to_the_first_error(project):
    done = script(
        project,
        "-- counts\nselect ';' as semicolon;\n.mode json\nselect count(*) as n\nfrom clips; "
        "select 2 as two;\nfrom nowhere;\nselect 5 as five;\n",
    )
    assert done.exit_code == 2 and "nowhere" in done.stderr and done.stderr.count("\n") == 1
    table, _, rest = done.stdout.partition("[")
    assert table.split() == ["semicolon", "---------", ";"] and "five" not in done.stdout
    assert [json.loads(f"[{part}") for part in rest.split("\n[")] == [[{"n": 2}], [{"two": 2}]]


@pytest.mark.parametrize(
    "text, code, says",
    [
        ("select 1 as n", 0, "n"),
        ("", 0, ""),
        ("\n\n-- nothing\n", 0, ""),
        (".quit\nselec;", 0, ""),
        (".timeout nan\n", 2, "got nan"),
        (".timeout soon\n", 2, "'soon' is no number"),
        (".mode xml\n", 2, "no command '.mode xml'"),
        (".schema clip\n", 2, "did you mean 'clips'"),
        (".schema ' or 1=1\n", 2, "no command"),
        (".schema x'y\n", 2, "nothing is called"),
        (f".timeout 0.2\n{BOMB}", 3, "stopped after 0.2 s"),
        ("insert into clips values (1);", 2, "one SELECT is needed"),
        ("select 'a\n.quit\n' as x;", 0, ".quit"),
    ],
)
def test_scripts(project, text, code, says):
    done = script(project, text)
    assert done.exit_code == code and says in done.output, done.output
    assert done.stderr.count("\n") == (code > 0)


def test_the_store_is_described(project):
    done = script(project, ".tables\n")
    assert {"labels_now", "label_events", "labels_at"} <= set(done.stdout.split())
    for name, start in {
        "clip_rows": "CREATE TABLE", "clips": "CREATE VIEW", "labels_now": "CREATE VIEW",
        "labels_at": "create macro",
    }.items():  # fmt: skip
        done = script(project, f".schema {name}\n")
        assert done.stdout.lower().startswith(start.lower()) and name in done.stdout, done.output
    done = script(project, ".help\n")
    assert done.stdout == "" and all(command in done.stderr for command in COMMANDS)


@pytest.mark.slow
def test_tables_wait_as_long_as_the_lock_timeout_says(project):
    held, stop = threading.Event(), threading.Event()

    def write():
        with project.store.write():
            held.set()
            # A reader who waits holds the door; longer than names to complete with would wait.
            wait_for(lambda: stop.is_set() or is_locked(f"{project.store.path}.door"), 60)
            stop.wait(0.6)

    writing = threading.Thread(target=write)
    writing.start()
    assert held.wait(10)
    try:
        done = script(project, ".tables\n")
    finally:
        stop.set()
        writing.join()
    assert done.exit_code == 0 and "labels_now" in done.stdout.split(), done.output


def is_locked(path):
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("option", ["--timeout", "--max-rows"])
def test_limits_are_checked_before_anything(project, option):
    done = script(project, "", option, "nan" if option == "--timeout" else "0")
    assert done.exit_code == 2 and "must be" in done.stderr
