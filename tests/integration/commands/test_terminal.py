"""Names and texts of others are seen on a terminal and steer nothing."""

import csv
import io
import json
import re
import sys
import unicodedata

import pytest
from click.testing import CliRunner

from labelkit import output, progress
from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.errors import InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.records import Batch
from labelkit.terminal import echo, visible, visible_json
from tests.support.clips import write_csv
from tests.support.paths import ROOT

# A title set, a screen cleared, a bell, backspaces, a direction turned, an isolate, C1, lines.
STEERING = ["\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x07", "ab\x08\x08", "\u202egpj", "\u2067x\u2069",
            "\x9b31m", "\u2028", "\u2029", "\u200f", "\u061c", "\r", "\x7f", "\udcff"]  # fmt: skip
# By what Unicode says of each: controls, halves, separators of lines, marks of direction.
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
MARKS = "\u200e\u200f\u061c"


def steers(text):
    # CRLF ends the lines of CSV.
    return any(
        (unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") and letter not in "\t\n")
        or unicodedata.bidirectional(letter) in TURNING
        or letter in MARKS
        for letter in text.replace("\r\n", "\n")
    )


def test_every_letter_is_judged_by_what_it_is():
    letters = list(map(chr, range(sys.maxunicode + 1)))
    assert [x for x in letters if (visible(x) != x) != steers(x)] == []


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_what_steers_is_written_out(text, capsys):
    assert steers(text) and not steers(visible(text)) and visible(visible(text)) == visible(text)
    echo(f"a{text}b")
    echo(f"a{text}b", err=True)
    progress.say(f"a{text}b")
    output.show([{"name": text}], False)
    output.show_facts({"name": text}, False)
    output.show([{"name": [text]}], True)
    output.show_json_rows(["name"], [(text,)])
    seen = capsys.readouterr()
    assert not steers(seen.out) and not steers(seen.err)


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_json_means_the_same(text):
    found = visible_json(json.dumps({"a": text}, ensure_ascii=False))
    assert not steers(found) and json.loads(found) == {"a": text}


@pytest.mark.parametrize(
    "text", ["Grüße", "日本語", "👩\u200d🚀", "a\tb", "a\nb", "עברית", "e\u0301", "=1+1", "-", ""]
)
def test_what_is_only_seen_stays(text):
    assert visible(text) == text and visible_json(text) == text


@pytest.mark.parametrize("terminal", [True, False])
def test_csv_is_data_in_a_file_and_harmless_on_a_terminal(monkeypatch, terminal):
    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    stream = Stream()
    monkeypatch.setattr("sys.stdout", stream)
    output.show_csv_rows(["a\x1b[2J"], [("=1+1\u202e",), (["\x07"],), (3,), (None,)])
    rows = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    if terminal:
        assert not steers(stream.getvalue())
        assert rows[1] == ["=1+1\\u202e"]
    else:
        # Cells are as they are, also those that a spreadsheet would take for a formula.
        assert rows[0] == ["a\x1b[2J"] and rows[1] == ["=1+1\u202e"] and rows[3] == ["3"]


def test_errors_steer_nothing(monkeypatch):
    def fail(*args, **kwargs):
        raise InvalidInput("no clip 'a\x1b[2J\u202e.wav'")

    monkeypatch.setattr("labelkit.project.find_root", fail)
    done = CliRunner().invoke(cli, ["status"])
    assert done.exit_code == 2 and done.stderr == "Error: no clip 'a\\x1b[2J\\u202e.wav'\n"


def test_names_of_a_store_steer_nothing(tmp_path):
    """Through the commands, with the names a store takes."""
    (tmp_path / "audio").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "audio")
    rows = [["a\u202egnp.wav", "Dog\u2066"], ["b.wav", "Dog\u2066"]]
    source = write_csv(tmp_path / "l.csv", ["fname", "label"], rows)
    import_labels(project, source, "csv", FormatSpec(), metadata_only=True)
    with project.store.write() as session:
        session.append(Batch(key="k", kind="t", actor="\x1b[31mana", by_person=True,
                             reason="because\x1b[2J", classes=["Cat\u202e"]))  # fmt: skip
    for words in (["log"], ["log", "--json"], ["status"], ["history", rows[0][0]],
                  ["blame", rows[0][0]], ["query", "from labels_now"],
                  ["query", "--csv", "from flips"],
                  ["folds", "--n", "2"], ["export", str(tmp_path / "e.csv"), "--format", "csv"],
                  ["history", "nowhere\x1b.wav"], ["doctor"]):  # fmt: skip
        done = CliRunner().invoke(cli, ["-C", str(tmp_path), *words])
        text = done.stderr if "--csv" in words else done.output
        assert not steers(text), (words, text)
    # A file holds the names as they are.
    assert "a\u202egnp.wav" in (tmp_path / "e.csv").read_text()


def test_everything_goes_this_way():
    """Whoever prints in another way is found here."""
    for file in (ROOT / "labelkit").rglob("*.py"):
        text = file.read_text()
        if file.name not in ("terminal.py", "progress.py"):
            assert "click.echo" not in text and "click.secho" not in text, file
            assert not re.search(r"click\.(confirm|prompt)\((?!visible\()", text), file
            assert not re.search(r"^\s+print\(", text, re.M), file


@pytest.mark.parametrize("text", ["a\u202egnp", "\x1b[2J", "\x07"], ids=ascii)
@pytest.mark.parametrize(
    "words",
    [["{}"], ["--{}"], ["log", "{}"], ["log", "--{}"], ["push", "--lowest", "a", "{}"],
     ["train", "--workers", "{}"], ["export", "x", "--format", "{}"], ["recipes", "{}"],
     ["recipes", "show", "{}"], ["-C", "{}", "status"]],
)  # fmt: skip
def test_a_command_line_that_is_wrong_steers_nothing(words, text):
    done = CliRunner().invoke(cli, [word.format(text) for word in words])
    assert done.exit_code in (1, 2) and not steers(done.output)
