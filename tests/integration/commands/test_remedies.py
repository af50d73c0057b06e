"""Every remedy that names a command names one there is; those that can be met are run."""

import ast
import json
import re
import shlex

import click
import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.commands.hints import list_options
from tests.support.clips import write_csv
from tests.support.labelled import PATHS, write_probs
from tests.support.paths import ROOT
from tests.support.projects import copy_project, copy_tones

# What follows the name where labelkit itself is spoken of.
PROSE = set(
    "project did made makes make never knows reads cannot uploaded audio waits which does "
    "is".split()
)


def texts():
    """Every text of the source that is no docstring, with the values that are filled in as {}."""
    for file in sorted((ROOT / "labelkit").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docstrings, parts = set(), set()
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            first = body[0] if isinstance(body, list) and body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.add(id(first.value))
            if isinstance(node, ast.JoinedStr):
                parts |= {id(value) for value in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = "" if {id(node)} & (docstrings | parts) else node.value
            else:
                continue
            yield file.relative_to(ROOT / "labelkit"), node.lineno, text


def remedies():
    for file, line, text in texts():
        for found in re.finditer(r"(with: |see: |: )?\blabelkit ([a-z]+\b[^;,()\n`]*)", text):
            words = found[2].replace("'", " ").split()
            words[0] = words[0].rstrip(".:")
            if words[0] not in PROSE and "import labelkit" not in text:
                yield pytest.param(words, found[1] == "with: ", id=f"{file}:{line}-{words[0]}")


def test_there_are_many():
    assert len(list(remedies())) > 60


@pytest.mark.parametrize(("words", "is_whole"), list(remedies()))
def test_a_remedy_names_a_command_there_is(words, is_whole):
    command, rest = cli, list(words)
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    assert command is not cli, f"no command {words[0]}"
    flags = [word for word in rest if word.startswith("-") and word != "-"]
    known = {*list_options(command), "--help"}
    assert set(flags) <= known, (words, set(flags) - known)
    if is_whole and not isinstance(command, click.Group):
        wanted = [p for p in command.params if isinstance(p, click.Argument) and p.required]
        assert len(rest) - len(flags) >= len(wanted), (words, wanted)


def run(root, line, code=None):
    words = shlex.split(line) if isinstance(line, str) else [*map(str, line)]
    done = CliRunner().invoke(cli, ["-C", str(root), *words])
    if code is not None:
        assert done.exit_code in code, (line, done.output)
    return done


# Where it is met; what is typed; what the remedy says; how the same line ends when that was run.
SEE = (1, 2)
MET = {
    "no project": ("nowhere", "status", "labelkit init AUDIO_DIR", 0),
    "no clips, folds": ("tones", "folds --n 2", "labelkit import FILE", 0),
    "no clips, export": ("tones", "export o.csv --format csv", "labelkit import FILE", 0),
    "no clips, status": ("tones", "status", "labelkit import FILE --format NAME", 0),
    "recordings left out": ("gone", "features --workers 1", "labelkit check", None),
    "unknown class": ("imported", "import new.csv --format csv", "--add-classes", 0),
    "no folds, export": ("imported", "export o.csv --format csv --fold-set x", "labelkit folds",
                         SEE),
    "no run": ("labelled", "score --run nothing", "labelkit status", SEE),
    "no run to keep": ("labelled", "gc --keep nothing", "labelkit status", SEE),
    "no run to start from": ("imported", "train --start nothing", "labelkit status", SEE),
    "no score": ("judged", "push --lowest margin 3 --dry-run", "labelkit score --method margin", 0),
    "no pair score": ("judged", "push --lowest pair_class_rank 3 --dry-run",
                      "labelkit score --pairs class_rank", 0),
    "no fused score": ("judged", "push --lowest fused 3 --dry-run", "labelkit score --fuse", 0),
    "none missing": ("judged", "push --missing 3 --dry-run", "labelkit missing", SEE),
    "some missing": ("judged", "push --missing 3 --dry-run", "labelkit missing, with a lower "
                     "--percentile", 0),
    "no batch": ("labelled", "undo 99", "labelkit log", SEE),
    "no batch or run": ("labelled", "undo nothing", "labelkit log", SEE),
    "no moment": ("labelled", "status --as-of 99", "labelkit log", SEE),
    "before the first": ("labelled", "status --as-of 2001-01-01", "labelkit log", SEE),
    "no class to rename to": ("labelled", "review repair --rename A=Nope",
                              "labelkit query 'from classes'", SEE),
    "no answer": ("labelled", "review repair --drop 9", "labelkit review quarantine", SEE),
    "no change set": ("labelled", "changes import bad.json", "labelkit changes export FILE",
                      SEE),
    "the store is gone": ("lost", "init audio", "labelkit restore BACKUP", 0),
    "what comes next": ("labelled", "status", "labelkit check", 0),
    "a list": ("judged", "select --rule listed", "--list FILE", 0),
}  # fmt: skip


@pytest.fixture
def places(tones, labelled, tmp_path, monkeypatch):
    """Makes a project where something is missing; its folder is the current one."""

    def make(kind):
        if kind in ("tones", "imported", "gone"):
            copy_tones(tones, tmp_path)
            root = tmp_path / "project"
            rows = [(f"{n}.wav", "AB"[n % 2]) for n in range(5)]
            write_csv(root / "l.csv", ("fname", "label"), rows)
            write_csv(root / "new.csv", ("fname", "label"), [("5.wav", "C")])
        elif kind == "nowhere":
            root = tmp_path / "empty"
            (root / "audio").mkdir(parents=True)
        else:
            root = copy_project(labelled, tmp_path / "p").root
            write_csv(root / "l.csv", ("fname", "label"), [("00.wav", "Dog")])
        monkeypatch.chdir(root)
        if kind == "gone":
            (tmp_path / "audio" / "0.wav").write_text("no sound " * 99)
        if kind in ("imported", "gone"):
            run(root, "import l.csv --format csv", (0,))
        if kind == "judged":
            for path in PATHS:
                (root / "audio" / path).touch()
            write_probs(root / "a.csv")
            run(root, "score --probs a.csv --method lwlrap", (0,))
        if kind == "lost":
            run(root, "backup b.duckdb", (0,))
            (root / "labels.duckdb").unlink()
        (root / "bad.json").write_text("{}")
        (root / "list.txt").write_text("00.wav\n01.wav\n")
        return root

    return make


@pytest.mark.parametrize("name", MET)
def test_a_remedy_helps(places, name):
    kind, line, remedy, after = MET[name]
    root = places(kind)
    done = run(root, line)
    said = done.stdout + done.stderr
    assert remedy in said, said
    if remedy.startswith("--"):
        given = remedy.replace("FILE", "list.txt")
        assert run(root, f"{line} {given}").exit_code == after
        return
    filled = remedy.removeprefix("labelkit ")
    if "lower --percentile" in remedy:
        filled = "missing --percentile 60"
    file = {"changes export FILE": "c.json"}.get(filled, "l.csv --format csv")
    for word, value in (("AUDIO_DIR", "audio"), ("BACKUP", "b.duckdb"), (" --format NAME", ""),
                        ("FILE", file)):  # fmt: skip
        filled = filled.replace(word, value)
    helped = run(root, filled)
    assert helped.exit_code in (0, 3) and "Traceback" not in helped.output, helped.output
    again = run(root, line)
    codes = (after,) if isinstance(after, int) else after
    assert codes is None or again.exit_code in codes, again.output
    if after == 0 and done.exit_code:
        assert remedy not in again.stderr


def test_a_score_that_is_none_has_no_command_that_makes_it(places):
    done = run(places("judged"), "push --lowest lwlarp 3 --dry-run", (2,))
    assert "did you mean 'lwlrap'" in done.stderr and "labelkit score" not in done.stderr


def test_what_is_exported_comes_back_as_the_note_says(places, tmp_path):
    """With labels that hold commas, by the separator that is told."""
    root = places("labelled")
    told = run(root, ["export", "s.csv", "--format", "csv", "--separator", "|"], (0,)).stderr
    [line] = [line for line in told.splitlines() if "bring it in with: " in line]
    new = tmp_path / "new"
    (new / "audio").mkdir(parents=True)
    run(new, f"init {new / 'audio'}", (0,))
    words = shlex.split(line.partition("labelkit ")[2])
    run(new, [*words, "--metadata-only"], (0,))
    rows = [json.loads(run(place, "query --json 'select path, labels from labels_now'").stdout)
            for place in (root, new)]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == 46
