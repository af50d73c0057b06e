"""Tables fit the terminal that shows them, and are whole everywhere else."""

import json
import re

import pytest
from click.testing import CliRunner

from labelkit import output
from labelkit.cli import cli
from labelkit.commands.runs import class_lines
from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from labelkit.output import Layout, fit_widths, show
from labelkit.project import create_project
from labelkit.records import Batch, LabelEvent
from labelkit.terminal import cut, width
from tests.support.clips import write_csv
from tests.support.commands import call
from tests.support.terminals import on_terminal

LONG = "a reason in many words, " * 8
PATHS = [f"recordings of spring/{n:02d}/車の音 on a wet road, take {n}.wav" for n in range(6)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A project of six clips with long names; five were relabeled for two reasons."""
    root = tmp_path_factory.mktemp("told")
    (root / "audio").mkdir()
    project, _ = create_project(root, root / "audio")
    source = write_csv(root / "l.csv", ["fname", "label"], [[path, "Car"] for path in PATHS])
    import_labels(project, source, "csv", FormatSpec(), metadata_only=True)
    with project.store.write() as session:
        session.append(Batch(key="c", kind="say", actor="ana", by_person=True, reason="more",
                             classes=["Rain"]))  # fmt: skip
    for number, (clips, reason) in enumerate([((1, 2), LONG), ((3,), "short"), ((4, 5), LONG)]):
        events = [
            LabelEvent(clip_id=clip, state="relabeled", labels=[1], source="ana") for clip in clips
        ]
        with project.store.write() as session:
            session.append(Batch(key=f"k{number}", kind="say", actor="ana", by_person=True,
                                 reason=reason, events=events))  # fmt: skip
    return project


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("Hund", 4),
     ("犬", 2), ("ｶﾅ", 2), ("カナ", 4), ("e\u0301", 1), ("\uff46\uff55\uff4c", 6),
     ("\u200b", 0), ("한국", 4), ("\u1112\u1161\u11ab", 2), ("a\u00adb", 3), ("👩", 2),
     ("Größe", 5), ("שלום", 4), ("ก็", 1)],
)  # fmt: skip
def test_columns_of_a_text(text, columns):
    assert width(text) == columns


@pytest.mark.parametrize("text", ["犬" * 30, "e\u0301" * 30, "a" * 30, "one two " * 6,
                                  "a犬e\u0301" * 12, "犬 猫 " * 9, *PATHS])  # fmt: skip
@pytest.mark.parametrize("room", range(1, 60))
def test_a_cut_text_fits_and_tells(text, room):
    found = cut(text, room)
    assert width(found) <= room
    assert (found == text) if width(text) <= room else ("…" in found)
    # No mark stands without its letter.
    assert "…\u0301" not in found


def test_a_word_keeps_its_end_and_a_sentence_its_beginning():
    assert cut("recordings/2026/spring/0001.wav", 16) == "recordi…0001.wav"
    assert cut("the model hears another class here", 16) == "the model hears…"
    assert cut("短い文 がここにある", 9) == "短い文…"


@pytest.mark.parametrize(
    ("widths", "texts", "room", "found"),
    [
        ({"a": 4, "b": 5}, {"a", "b"}, 11, [4, 5]),
        ({"a": 4, "b": 50}, {"a", "b"}, 20, [4, 14]),
        ({"n": 19, "b": 50}, {"b"}, 40, [19, 19]),
        ({"a": 30, "b": 50}, {"a", "b"}, 42, [20, 20]),
        ({"a": 12, "b": 50, "c": 50}, {"a", "b", "c"}, 80, [12, 32, 32]),
        ({"a": 30, "b": 50}, {"a", "b"}, 17, None),
        ({"n": 30, "b": 3}, {"b"}, 30, None),
        ({"n": 30}, set(), 30, [30]),
    ],
)
def test_short_columns_stay_whole_and_long_ones_share(widths, texts, room, found):
    fitting = fit_widths(widths, texts, room)
    assert (fitting and list(fitting.values())) == found


COMMANDS = ["log", "history {}", "blame {}", "diff 1", "query 'from labels_now'", "status",
            "query 'from label_history'", "doctor --fast"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("command", "columns"), [
    *((command, 80) for command in COMMANDS), ("log", 60), ("log", 200), ("diff 1", 60),
    ("query 'from label_history'", 250), ("query 'from review_queue'", 80),
])  # fmt: skip
def test_tables_fit_the_terminal(told, command, columns):
    words = [word.strip("'").replace("{}", PATHS[0])
             for word in re.findall(r"'[^']*'|\S+", command)]  # fmt: skip
    code, shown, _ = on_terminal("-C", told.root, *words, columns=columns)
    assert code == 0
    is_record = "-- 1 of " in shown
    if not is_record:
        assert shown.strip() or "queue" in command
        # The headings of a diff are sentences.
        lines = [line for line in shown.splitlines() if "say by ana" not in line]
        assert max(map(width, lines), default=0) <= columns
    assert not re.search(r"\d\d:\d\d:\d\d\.\d", shown)
    assert is_record == (command.startswith("query 'from label") and columns == 80)


@pytest.mark.slow
def test_wide_shows_all_and_what_is_left_out_is_told(told):
    _, narrow, said = on_terminal("-C", told.root, "log", columns=60)
    assert "…" in narrow and "not shown, for want of width" in said and "--wide" in said
    assert "undoes" not in narrow and "undoes" in said
    _, wide, said = on_terminal("-C", told.root, "log", "--wide", columns=60)
    assert "…" not in wide and LONG.strip() in wide and "undoes" in wide and "width" not in said


@pytest.mark.parametrize("words", [["log"], ["history", PATHS[1]], ["query", "from labels_now"],
                                   ["diff", "1"]])  # fmt: skip
def test_in_a_file_nothing_is_cut(told, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    done = call(told, *words)
    assert "…" not in done.stdout and "not shown" not in done.stderr
    assert (LONG.strip() in done.stdout) == (words[0] != "query")


def test_what_is_longer_than_any_column_is_whole_in_a_file(capsys):
    show([{"a": "x" * 5000, "b": 1}, {"a": "犬", "b": 2}], False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "x" * 5000 + "  1" and lines[3].split() == ["犬", "2"]
    assert max(map(len, lines[:2])) < 400


def test_wide_letters_stand_in_line(capsys):
    show([{"name": "車", "n": 1}, {"name": "e\u0301te", "n": 2}, {"name": "abcd", "n": 3}], False)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert {width(line[: line.rindex(line[-1])]) for line in lines} == {6}


@pytest.mark.parametrize("words", [["log"], ["history", PATHS[0]], ["blame", PATHS[0]],
                                   ["query", "from label_history"]])  # fmt: skip
def test_a_line_a_field(told, words):
    rows = json.loads(call(told, *words, "--json").stdout)
    shown = call(told, *words, "--record").stdout.splitlines()
    assert shown.count(f"-- 1 of {len(rows)} --") == 1
    assert len(shown) == len(rows) * (1 + len(rows[0]))
    assert [line.split()[0] for line in shown[1 : 1 + len(rows[0])]] == list(rows[0])


@pytest.mark.parametrize(
    "words",
    [["log", "--json"], ["query", "from labels_now", "--csv"],
     ["query", "from labels_now", "--parquet", "x.parquet"]],
)  # fmt: skip
def test_a_line_a_field_is_a_table(told, words):
    done = call(told, *words, "--record")
    assert done.exit_code == 2 and "--record and --" in done.stderr and done.stdout == ""


def test_layout_does_not_outlive_its_command(told):
    assert "-- 1 of" in call(told, "log", "--record").stdout
    assert "-- 1 of" not in call(told, "log").stdout
    assert output._asked_layout() == Layout()


def test_a_prompt_takes_the_layout(told):
    text = ".mode record\nselect 1 as one;\n.mode table\nselect 2 as two;\n"
    words = ["-C", str(told.root), "sql"]
    shown = CliRunner().invoke(cli, words, input=text).stdout
    assert shown.splitlines() == ["-- 1 of 1 --", "one  1", "two", "---", "2"]
    shown = CliRunner().invoke(cli, [*words, "--record"], input="select 1 as one;").stdout
    assert shown.splitlines() == ["-- 1 of 1 --", "one  1"]


def test_times_are_whole_where_programs_read_them(told):
    sql = "select made_at from batches order by batch_id limit 1"
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", call(told, "query", sql).stdout, re.M)
    [row] = json.loads(call(told, "query", sql, "--json").stdout)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["made_at"])
    assert re.search(r"\d\d:\d\d:\d\d\.\d+", call(told, "query", sql, "--csv").stdout)


def test_equal_reasons_of_a_diff_stand_once(told):
    shown = call(told, "diff", "2").stdout
    assert shown.count(LONG.strip()) == 1 and "4 clips, say by ana (batches 3, 5): a reas" in shown
    assert "1 clip, say by ana (batch 4): short" in shown
    assert all(path in shown for path in PATHS[1:]) and PATHS[0] not in shown
    rows = json.loads(call(told, "diff", "2", "--json").stdout)
    assert [row["reason"] for row in rows].count(LONG) == 4 and len(rows) == 5


@pytest.mark.parametrize(("n", "lines"), [(0, 0), (3, 3), (80, 0)])
def test_a_round_of_many_classes_is_one_line(n, lines):
    counts = {f"Class_{number}": number for number in range(n)}
    found = class_lines({"proposed": counts, "accepted": counts, "revoked": counts})
    assert len(found) == lines and all(width(line) <= 100 for line in found)
