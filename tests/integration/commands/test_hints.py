"""Whoever types a word that is none is told the right one; whoever comes too early, what to do."""

import shlex

import click
import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.commands.hints import BEFORE, COMMANDS, OPTIONS, list_options
from labelkit.maintenance import status as at_a_glance
from labelkit.maintenance.status import next_step
from labelkit.project import open_project
from tests.support.clips import write_csv
from tests.support.commands import call, refused
from tests.support.labelled import write_probs
from tests.support.projects import copy_project, copy_tones


def every_command(group=cli, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


def parse(words):
    """Return the command that words name, and what of them is left; fails where there is none."""
    command, rest = cli, list(words)
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return command, rest


def said(*words):
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 2 and done.stdout == ""
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("word", COMMANDS)
def test_what_a_word_means_is_there(word):
    words = shlex.split(COMMANDS[word])
    command, rest = parse(words)
    if command is cli:
        assert words in (["--help"], ["--version"])
    else:
        assert {flag for flag in rest if flag.startswith("--")} <= set(list_options(command))
        wanted = [p for p in command.params if isinstance(p, click.Argument) and p.required]
        assert sum(not flag.startswith("--") for flag in rest) >= len(wanted)
    assert word not in cli.commands
    assert said(word) == f"Error: No such command '{word}'; did you mean: labelkit {COMMANDS[word]}"


@pytest.mark.parametrize("word", OPTIONS)
def test_what_an_option_means_is_there(word):
    flags = {text.split()[0] for text in OPTIONS[word]}
    known = {flag for _, command in every_command() for flag in list_options(command)}
    assert flags <= known
    for path, command in every_command():
        mine = list_options(command)
        found = next((text for text in OPTIONS[word] if text.split()[0] in mine), None)
        if found and word not in mine and not isinstance(command, click.Group):
            assert said(*path, word).endswith(f"did you mean {found}")
            return
    raise AssertionError(f"no command has what {word} means")


@pytest.mark.parametrize("word", BEFORE)
def test_options_of_before_the_command(word):
    assert BEFORE[word] in list_options(cli)
    assert said("status", word).endswith(f"before the command: labelkit {BEFORE[word]}")


@pytest.mark.parametrize(
    ("words", "means"),
    [
        (["trian"], "labelkit train"), (["statsu"], "labelkit status"),
        (["relabell"], "labelkit label"),
        (["Train"], "labelkit train"), (["REVIEW"], "labelkit review"),
        (["train_model"], "labelkit train"),
        (["review", "statis"], "labelkit review status"), (["review", "log"], "labelkit log"),
        (["review", "accept"], "labelkit select --rule NAME"),
        (["recipes", "shw"], "labelkit recipes show"), (["changes", "pull"], "labelkit pull"),
        (["changes", "exprot"], "labelkit changes export"),
        (["xyzzyq"], "labelkit --help"), (["review", "xyzzyq"], "labelkit review --help"),
        (["status", "--jsn"], "--json"), (["status", "--JSON"], "--json"),
        (["select", "--dry_run"], "--dry-run"), (["train", "--worker", "2"], "--workers"),
        (["status", "--lock-timeout", "3"], "before the command: labelkit --lock-timeout"),
        (["log", "--debug"], "before the command: labelkit --debug"),
        (["train", "--xyzzyq"], "labelkit train --help"),
        (["review", "status", "--token", "x"], "--token-file"),
        (["--jsn", "status"], "labelkit --help"),
    ],
)  # fmt: skip
def test_slips_and_places(words, means):
    assert said(*words).endswith(means)


def test_words_that_steer_are_written_out():
    assert "\x1b" not in said("re\x1b[2Jlabel") and "\x1b" not in said("log", "--\x1b[2J")


# Who comes too early typed nothing wrong; and what names a thing that is not there did.
EMPTY = ["train", "verify", "score", "classes", "missing", "select --rule confident", "folds",
         "export x.csv --format csv", "rehearse --kind uniform --rate 0.2", "pull",
         "push --where true", "review status",
         "review init --url http://127.0.0.1:9 --project Clips"]  # fmt: skip
LABELLED = ["score", "classes", "missing", "select --rule confident", "pull",
            "push --lowest lwlrap 3", "push --missing 3", "push --lowest fusion 2 --dry-run",
            "push --lowest pair_class_rank 2", "review status"]  # fmt: skip
WRONG = ["score --run nothing", "select --rule nothing", "train --recipe nothing", "blame no.wav",
         "undo 99", "status --as-of 99", "export x.csv --format nothing", "gc --keep nothing",
         "score --probs nothing.csv", "push"]  # fmt: skip


@pytest.fixture(scope="module")
def empty(tones):
    return open_project(tones / "project")


@pytest.mark.parametrize("words", EMPTY)
def test_an_empty_project_is_no_wrong_usage(empty, words, monkeypatch, tmp_path):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a.b.c")
    monkeypatch.chdir(tmp_path)
    refused(call(empty, *words.split()), code=1)


@pytest.mark.parametrize("words", LABELLED)
def test_a_step_that_is_missing_is_no_wrong_usage(labelled, words, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a.b.c")
    done = call(labelled, *words.split())
    # What is told before, of a dry run say, is a line of its own.
    assert done.exit_code == 1 and done.stdout == "", done.output
    assert done.stderr.splitlines()[-1].startswith("Error: no ") and "labelkit" in done.stderr


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_wrong_usage(labelled, words):
    done = call(labelled, *words.split())
    assert done.exit_code == 2 and "Error: " in done.stderr


@pytest.mark.parametrize("title", ["", "ab", " a ", "x" * 51, "  ", "é"])
def test_a_title_is_judged_before_anybody_is_asked(labelled, title):
    """Without a token, and without a server."""
    words = ["review", "init", "--url", "http://127.0.0.1:9", "--project", title]
    refused(call(labelled, *words), "must have 3 to 50 characters")


class TestDryPush:
    """Nothing but the store is asked."""

    @pytest.fixture
    def scored(self, labelled, tmp_path):
        project = copy_project(labelled, tmp_path / "p")
        call(project, "score", "--probs", write_probs(tmp_path / "a.csv"), "--method", "lwlrap")
        return project

    @pytest.mark.parametrize(
        "words",
        [["--lowest", "lwlrap", 3], ["--lowest-lwlrap", 3], ["--where", "true"]],
    )
    def test_without_token_server_and_set_up(self, scored, words):
        for clip in range(46):
            (scored.audio_dir / f"{clip:02d}.wav").touch()
        done = call(scored, "push", *words, "--dry-run")
        assert done.exit_code == 0, done.output
        n = 46 if words[0] == "--where" else 3
        assert f"new: {n}\n" in done.stderr and "sent: nothing, dry run" in done.stderr
        assert "labelkit review init" in done.stderr

    def test_recordings_that_are_gone_are_told(self, scored):
        (scored.audio_dir / "00.wav").touch()
        done = call(scored, "push", "--where", "true", "--dry-run")
        assert "left out: 45" in done.stderr and "and 44 more clips" in done.stderr

    def test_links_matter_to_uploads_alone(self, scored):
        words = ["push", "--where", "true", "--dry-run", "--follow-links"]
        done = call(scored, *words)
        assert done.exit_code == 2 and "--follow-links is for uploaded" in done.stderr

    def test_a_token_file_is_looked_at(self, scored, tmp_path):
        words = ["push", "--where", "true", "--dry-run", "--token-file"]
        assert call(scored, *words, tmp_path / "nowhere").exit_code == 2
        (scored.root / "token").write_text("a.b.c")
        assert "lies in the project" in call(scored, *words, scored.root / "token").stderr


def after(project, *words):
    done = call(project, *words)
    assert done.exit_code == 0, done.output
    [line] = [line for line in done.stderr.splitlines() if line.startswith("next: ")]
    return line.removeprefix("next: labelkit ")


def test_init_and_import_say_what_comes_next(tones, tmp_path, monkeypatch):
    monkeypatch.setattr(at_a_glance, "_GPU", tmp_path / "no device")
    copy_tones(tones, tmp_path)
    project, _ = open_project(tmp_path / "project"), None
    assert after(project, "init", tmp_path / "audio").startswith("import FILE --format NAME")
    rows = [(f"{n}.wav", "AB"[n % 2], int(n < 3)) for n in range(6)]
    source = write_csv(tmp_path / "l.csv", ("fname", "label", "ok"), rows)
    words = ["import", source, "--format", "csv", "--verified-column", "ok"]
    assert after(project, *words).startswith("check, then labelkit verify --recipe panel (no")
    assert after(project, "init", tmp_path / "audio").startswith("check, then labelkit verify")
    shown = call(project, "status").stdout
    assert "labelkit verify --recipe panel\n" in shown and "no GPU: judges" in shown
    (tmp_path / "no device").touch()
    assert next_step(project) == "labelkit check, then labelkit verify"
    assert "next" not in call(project, "status", "--as-of", "1").stdout


@pytest.mark.parametrize(("ok", "command"), [((1,) * 6, "score"), ((0,) * 6, "score"),
                                             ((1, 0) * 3, "verify")])  # fmt: skip
def test_next_fits_the_labels(tones, tmp_path, ok, command):
    project = copy_tones(tones, tmp_path)
    rows = [(f"{n}.wav", "AB"[n % 2], ok[n]) for n in range(6)]
    source = write_csv(tmp_path / "l.csv", ("fname", "label", "ok"), rows)
    words = ["import", source, "--format", "csv", "--verified-column", "ok"]
    assert after(project, *words).startswith(f"check, then labelkit {command}")


def test_next_fits_the_runs(labelled, tmp_path):
    project = copy_project(labelled, tmp_path / "p")
    assert next_step(project).startswith("labelkit check, then")
    call(project, "score", "--probs", write_probs(tmp_path / "a.csv"), "--method", "lwlrap")
    # Nothing was trained here, whatever somebody else's model said.
    assert next_step(project).startswith("labelkit check, then")


@pytest.mark.slow
def test_verify_and_pull_say_what_comes_next(verified_project, tmp_path):
    project = copy_project(verified_project[0], tmp_path / "p")
    assert next_step(project) == "labelkit score (for the most doubtful labels)"
    (tmp_path / "export.json").write_text("[]")
    words = ["pull", "--from", tmp_path / "export.json"]
    assert after(project, *words).startswith("pull again")
    assert "next:" not in call(project, *words, "--json").output


@pytest.mark.parametrize("words", [["init", "audio"], ["status"], ["status", "--json"]])
def test_every_next_step_is_a_command(labelled, tmp_path, words):
    text = next_step(labelled)
    for part in text.split("labelkit ")[1:]:
        command, _ = parse(shlex.split(part.replace("'", "").replace(",", " ").split("(")[0]))
        assert command is not cli
