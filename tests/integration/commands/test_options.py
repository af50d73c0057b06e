"""Every option of every command and format has an effect or is refused; a new one needs a row."""

import importlib
import json
import pkgutil
import shlex

import click
import pytest
from click.testing import CliRunner

import labelkit
from labelkit import registry
from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.errors import LabelkitError
from tests.support.clips import write_csv
from tests.support.commands import call, snapshot
from tests.support.labelled import CLASSES, PATHS, write_probs
from tests.support.paths import ROOT
from tests.support.projects import copy_project

# What a command calls with what its options say, and words that are enough for that.
CALLS = {
    "init": ("labelkit.project.create_project", "audio"),
    "import": ("labelkit.review.foreign.import_file", "l.csv --format csv"),
    "check": ("labelkit.recordings.checking.check", ""),
    "features": ("labelkit.recordings.features.compute_features", ""),
    "folds": ("labelkit.runs.folds.freeze_folds", "--n 3"),
    "status": ("labelkit.maintenance.status.status", ""),
    "demo": ("labelkit.demo.run_demo", "new"),
    "train": ("labelkit.runs.train.train", ""),
    "verify": ("labelkit.runs.verify.verify", ""),
    "score": ("labelkit.cleaning.score.score", ""),
    "classes": ("labelkit.cleaning.inputs.read_inputs", ""),
    "classes rename": ("labelkit.labels.classes.rename_class", "Dog Hund"),
    "classes merge": ("labelkit.labels.classes.merge_classes", "Dog Car"),
    "classes retire": ("labelkit.labels.classes.retire_class", "Dog"),
    "label": ("labelkit.labels.by_hand.label_clip", "00.wav Dog"),
    "labels": ("labelkit.labels.kind.read_kind", ""),
    "select": ("labelkit.cleaning.selection.select", "--rule confident"),
    "missing": ("labelkit.cleaning.missing.find_missing_labels", ""),
    "duplicates": ("labelkit.recordings.duplicates.list_duplicates", ""),
    "similar": ("labelkit.recordings.embedding.similar", "00.wav"),
    "embed": ("labelkit.recordings.embedding.compute_embeddings", ""),
    "rehearse": ("labelkit.cleaning.rehearsal.rehearse", "--kind uniform --rate 0.2"),
    "review init": ("labelkit.review.setup.set_up", "--url http://a --project Clips"),
    "review status": ("labelkit.review.status.status", ""),
    "review doctor": ("labelkit.review.doctor.examine", ""),
    "review repair": ("labelkit.review.pull.repair", ""),
    "push": ("labelkit.review.push.push", "--where true"),
    "pull": ("labelkit.review.pull.pull", ""),
    "log": ("labelkit.labels.history.log", ""),
    "blame": ("labelkit.labels.history.blame", "00.wav"),
    "history": ("labelkit.labels.history.history", "00.wav"),
    "undo": ("labelkit.labels.undo.undo", "3"),
    "query": ("labelkit.labels.query.ask", "'from labels_now'"),
    "export": ("labelkit.labels.exporting.export_labels", "o.csv --format csv"),
    "changes export": ("labelkit.labels.changes.exporting.export_changes", "c.json"),
    "changes import": ("labelkit.labels.changes.importing.import_changes", "c.json"),
    "backup": ("labelkit.maintenance.backup.backup", "b.duckdb"),
    "doctor": ("labelkit.maintenance.doctor.examine", ""),
    "gc": ("labelkit.maintenance.gc.collect", ""),
    "recipes show": ("labelkit.config.explain_recipe", "dorfer"),
}
# In the group review, too.
TWICE = {"review push": "push", "review pull": "pull"}

# By the name of an option, or of a command and its option: what is added to those words, so that
# something else is called or said than without it; or the file that shows what it does.
TERMINAL, PLUGINS = "tests/integration/commands/test_tables.py", "tests/unit/config/test_plugins.py"
ROWS = {
    "--set": "--set features.n_mels=33", "--recipe": "--recipe probe", 
    "--probe": "--probe quick", "--encoder": "--encoder aisfx",
    "--workers": "--workers 3", "--seed": "--seed 3",
    "--dry-run": "--dry-run", "--force": "--force", "--as-of": "--as-of 1",
    "--allow-plugins": PLUGINS, "--wide": TERMINAL, "--record": TERMINAL, 
"--run": "--run r", "--probs": "--probs a.csv",
    "--token-file": "--token-file /t", "--fast": "--fast",
    "import --format": ("l.csv --format jsonl", ""), "import --metadata-only": "--metadata-only",
    "import --add-classes": "--add-classes", "import --actor": "--actor ann",
    "import --by": "--by machine", "import --source": "--source Bob",
    "import --yes": "tests/integration/labels/test_import_reports.py",
    "init --labels": "tests/integration/labels/test_kind.py",
    "check --moved": "--moved", "check --dry-run": "tests/integration/recordings/test_moved.py",
    "label --none": ("00.wav Dog", "00.wav --none"),
    "label --reject": ("00.wav Dog", "00.wav --reject"),
    "label --reason": "--reason heard", "label --actor": "--actor ann",
    "label --add-classes": "--add-classes",
    "check --flavour": ("--recipe dorfer", "--flavour as_written"),
    "check --probe": "--probe quick", "score --recipe": "--recipe quick",
    "missing --recipe": "--recipe quick", "embed --recipe": "--recipe quick",
    "similar --recipe": "--recipe quick",
    "features --flavour": ("--recipe bouteillon", "--flavour as_written"),
    "features --device": "--device cuda",
    "features --refit": "tests/integration/recordings/test_fitting.py",
    "folds --n": "--n 4", "folds --by": "--by domain",
    "train --flavour": ("--recipe dorfer", "--flavour as_written"),
    "train --device": "--device cuda", "train --trusted": "--trusted",
    "train --rest": ("--trusted", "--trusted --rest 0.5"), "train --start": "--start r",
    "verify --flavour": ("--recipe dorfer", "--flavour as_written"),
    "verify --device": "--device cuda", "verify --rule": "--rule as_written",
    "verify --iterations": "--iterations 9", "verify --windows": "--windows 9",
    "verify --threshold": "--threshold 0.9", "verify --per-class": "--per-class 9",
    "verify --accumulate": "--no-accumulate", "verify --keep": "--keep 2",
    "verify --precision": "--precision 0.9", "verify --until": "--until all",
    "score --method": "--method margin", "score --fuse": "--fuse", "score --lowest": "--lowest 3",
    "score --pairs": "--pairs class_rank",
    "select --rule": ("--rule confident", "--rule agreement"),
    "select --set": "--set threshold=0.7", "select --list": "--list l.txt", "select --add": "--add",
    "missing --percentile": "--percentile 50", "missing --mask": "--mask",
    "missing --most": "--most 3",
    "duplicates --threshold": "--threshold 0.5",
    "similar --most": "--most 3", "similar --device": "--device cuda",
    "embed --device": "--device cuda",
    "rehearse --kind": "--kind confusable", "rehearse --rate": "--rate 0.3",
    "rehearse --hide": "--hide 0.3", "rehearse --repeats": "--repeats 1",
    "rehearse --flavour": (
        "--kind uniform --rate 0.2 --recipe dorfer", "--flavour as_written",
    ),
    "rehearse --device": "--device cuda",
    "review init --url": "--url http://b", "review init --project": "--project Others",
    "review init --blind": "--blind", "review init --overlap": "--overlap 2",
    "review init --consensus": "--consensus majority", "review init --audio": "--audio upload",
    "review init --audio-url": "--audio-url http://a/b",
    "review init --document-root": "--document-root /d",
    "review doctor --url": "--url http://b",
    "review repair --rename": "--rename A=B", "review repair --drop": "--drop 3",
    "push --lowest-lwlrap": ("", "--lowest-lwlrap 3"), "push --lowest": ("", "--lowest fusion 3"),
    "push --missing": ("", "--missing 3"), "push --where": ("--where false", "--where true"),
    "push --clips": ("", "--clips l.txt"), "push --disagreements": ("", "--disagreements"),
    "push --follow-links": "--follow-links",
    "pull --full": "--full", "pull --watch": "--watch 3", "pull --from": "--from e.json",
    "log --kind": "--kind import", "log --actor": "--actor me", "log --since": "--since 2",
    "log --limit": "--limit 3", "blame --all": "--all",
    "query --file": ("", "--file q.sql"), "query --csv": "--csv",
    "query --parquet": "--parquet o.parquet",
    "query --force": ("'from labels_now' --parquet o.parquet", "--force"),
    "query --max-rows": "--max-rows 3", "query --timeout": "--timeout 3",
    "sql --max-rows": "tests/integration/commands/test_sql_prompt.py",
    "sql --timeout": "tests/integration/commands/test_sql_prompt.py",
    "sql --as-of": "tests/integration/labels/test_as_of.py",
    "export --format": ("o --format csv", "--format jsonl"),
    "export --fold-set": "--fold-set 2-seed0", "export --separator": "--separator ;",
    "changes export --since": "--since 1", "changes export --people": "--people",
    "doctor --repair": "--repair", "gc --keep": "--keep r",
    "recipes show --flavour": "--flavour as_written", "recipes show --set": "--set epochs=99",
    "recipes show --all": "--all",
}  # fmt: skip
# Whose words, or tests, show that an array of objects is printed.
JSON = {
    "check": "tests/integration/commands/test_cli.py", "folds": "--n 2", "status": "",
    "train": {"run_id": "r"}, "verify": {"run_id": "r", "finished_before": False, "rounds": []},
    "score": "--method lwlrap", "classes": "",
    "classes rename": "tests/integration/labels/test_classes.py",
    "classes merge": "tests/integration/labels/test_classes.py",
    "classes retire": "tests/integration/labels/test_classes.py",
    "label": "tests/integration/labels/test_classes.py", "labels": "",
    "select": "--rule confident --dry-run",
    "missing": "tests/integration/cleaning/test_missing.py",
    "duplicates": "tests/integration/recordings/test_duplicates_command.py",
    "similar": [],
    "rehearse": "tests/integration/cleaning/test_rehearsal.py", "recipes": "",
    "recipes show": "quick", "push": "--where true --dry-run", "pull": "--from e.json",
    "review push": "--where true --dry-run", "review pull": "--from e.json",
    "review status": "tests/integration/review/test_review.py",
    "review doctor": "tests/integration/review/test_review.py",
    "review disagreements": "tests/integration/review/test_review.py",
    "review annotators": "tests/integration/review/test_review.py",
    "review quarantine": "", "review repair": "", "log": "", "history": "00.wav",
    "blame": "00.wav", "diff": "1", "undo": "6 --dry-run", "query": "'from labels_now'",
    "changes import": "c.json --dry-run", "doctor": "--fast", "gc": "--dry-run",
}  # fmt: skip
# Options that would have no effect beside others, and those that cannot stand together.
REFUSED = {
    "check --fast --probe quick": "--fast compares no clips; leave out --probe",
    "check --moved --fast": "--moved looks for recordings alone; leave out --fast",
    "check --dry-run": "--dry-run is for --moved",
    "classes --json rename Dog Hund": "--json is for the table",
    "classes --run r retire Dog": "--run is for the table",
    "label 00.wav Dog --none": "name the classes, or give --none, or --reject",
    "label 00.wav --none --reject": "name the classes, or give --none, or --reject",
    "import l.csv --format csv --by machine": "--by machine is for corrections",
    "folds --seed 3": "without --n no other is made; leave out --seed",
    "recipes --json show quick": "put it behind",
    "recipes show quick --flavour as_written": "no flavour",
    "train --recipe probe --start r": "starts from no weights",
    "train --recipe quick --encoder aisfx": "hears spectrograms and no vectors; leave out --encod",
    "verify --recipe dorfer --encoder aisfx": "or take --recipe panel",
    "rehearse --kind uniform --rate 0.2 --encoder aifsx": "'aifsx'; did you mean 'aisfx'",
    "embed --encoder aisfx --set embedding.embedder=pooled_mel": "exclude one another",
    "train --set embedding.embedder=pooled_mel --encoder pooled_mel": "exclude one another",
    "score --method lwlrap --encoder aisfx": "lwlrap reads no embeddings; leave out --encoder",
    "score --run r --probs a.csv": "exclude one another",
    "score --pairs class_rank --method lwlrap": "--pairs excludes",
    "score --pairs class_rank --fuse": "--pairs excludes",
    "score --method lwlrap --probe quick": "lwlrap reads no embeddings; leave out --recipe",
    "score --method lwlrap --set probe.classifier=svm": "reads no embeddings; leave out --set",
    "score --method lwlrap --method margin --set probe.classifier=svm": "lwlrap, margin reads no",
    "classes --run r --probs a.csv": "exclude one another",
    "missing --run r --probs a.csv": "exclude one another",
    "select --rule confident --set keep=0.5": "keep",
    "select --rule confident --list l.txt": "takes no list",
    "select --rule listed": "give it with --list FILE",
    "select --rule confident --set rule=other": "is no option of a rule",
    "push --where true --missing 3": "say which clips",
    "push --lowest fusion 3 --lowest-lwlrap 3": "exclude one another",
    "push --where true --dry-run --follow-links": "--follow-links is for uploaded recordings",
    "pull --from e.json --full": "--from excludes",
    "pull --from e.json --watch 3": "--from excludes",
    "pull --from e.json --token-file /t": "--from asks no server; leave out --token-file",
    "pull --full --watch 3": "--full and --watch exclude one another",
    "review init --url http://a --project Clips --audio-url http://a/b": "go together",
    "review init --url http://a --project Clips --audio url": "go together",
    "review init --url http://a --project Clips --audio upload --document-root /d": "is for --au",
    "query 'from labels_now' --force": "--force is for --parquet",
    "query 'from labels_now' --json --csv": "exclude one another",
    "query 'from labels_now' --file q.sql": "exclude one another",
    "query 'from labels_now' --csv --record": "--record and --csv",
    "log --json --record": "--record and --json",
    "import c.json --format corrections --metadata-only": "looks for no recordings",
    "import c.json --format corrections --separator ;": "",
    "export o --format fsdkaggle2019 --separator ;": "has no separator",
    "export o.csv --format fsdkaggle2018 --fold-set 2-seed0": "holds no folds",
}
# Settings that a command does not read are told, a line each, so that one list fits them all.
TOLD = {
    "check --fast --set epochs=3": "--set epochs=3 is not read here",
    "features --set verify.windows=3": "--set verify.windows=3 is not read here",
    "similar 00.wav --set probe.classifier=svm": "--set probe.classifier=svm is not read here",
    "embed --set probe.classifier=svm": "--set probe.classifier=svm is not read here",
    "score --set verify.windows=3": "--set verify.windows=3 is not read here",
    "missing --set verify.windows=3": "--set verify.windows=3 is not read here",
    "train --set verify.windows=3": "is read by labelkit verify alone",
    "verify --recipe probe --windows 3": "verify.windows",
}


class Called(LabelkitError):
    """The function that a command is for was reached."""


def walk(group=cli, path=()):
    for name, command in group.commands.items():
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from walk(command, (*path, name))


def options():
    """Every option, but for those of formats that are read, which their own tests go through."""
    formats = {"--" + name.replace("_", "-") for name in FormatSpec.__dataclass_fields__}
    for name, command in walk():
        for option in command.params:
            flag = option.opts[0]
            if isinstance(option, click.Option) and not (name == "import" and flag in formats):
                yield name, flag


ALL = list(options())


def row_of(name, flag):
    name = TWICE.get(name, name)
    return ROWS.get(f"{name} {flag}", ROWS.get(flag))


@pytest.fixture(scope="module")
def whole(labelled, tmp_path_factory):
    """A project of labels, folds and a run of somebody else's, and files to name; a copy each."""
    project = copy_project(labelled, tmp_path_factory.mktemp("whole") / "p")
    write_probs(project.root / "a.csv")
    done = call(project, "score", "--probs", project.root / "a.csv", "--method", "lwlrap")
    assert done.exit_code == 0, done.output
    corrections = project.root / "c1.json"
    corrections.write_text(json.dumps({PATHS[0]: CLASSES[2]}))
    done = call(project, "import", corrections, "--format", "corrections")
    assert done.exit_code == 0, done.output
    for path in PATHS:
        (project.audio_dir / path).touch()
    write_csv(project.root / "l.csv", ("fname", "label"), [["00.wav", "Dog"]])
    (project.root / "l.txt").write_text("00.wav\n01.wav\n")
    (project.root / "e.json").write_text("[]")
    (project.root / "q.sql").write_text("from clips")
    call(project, "changes", "export", project.root / "c.json")
    # What a fixture of a module imports late it would keep, were it imported when that is replaced.
    for module in pkgutil.walk_packages(labelkit.__path__, "labelkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return project


@pytest.fixture
def looked_at(whole, monkeypatch):
    """The project itself, for what changes nothing."""
    monkeypatch.chdir(whole.root)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a.b.c")
    return whole


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    """A copy to write to."""
    project = copy_project(whole, tmp_path / "p")
    monkeypatch.chdir(project.root)
    return project


def test_every_option_has_a_row():
    missing = [f"{name} {flag}" for name, flag in ALL
               if flag != "--json" and row_of(name, flag) is None]  # fmt: skip
    assert missing == []
    assert {name for name, flag in ALL if flag == "--json"} == set(JSON)


def test_every_row_is_of_an_option():
    known = {f"{name} {flag}" for name, flag in ALL} | {flag for _, flag in ALL}
    assert set(ROWS) - known == set()
    assert (set(CALLS) | set(TWICE) | set(JSON)) <= {name for name, _ in walk()}


@pytest.fixture
def reached(monkeypatch):
    """What the functions of all commands are called with; none of them does anything."""
    calls = []

    def spy(target):
        def stand_in(*args, **kwargs):
            calls.append((target, repr(args[1:]), repr(sorted(kwargs.items()))))
            raise Called(target)

        return stand_in

    more = ("labelkit.cleaning.score.score_given", "labelkit.review.pull.watch",
            "labelkit.review.pull.pull_file", "labelkit.labels.query.write_parquet",
            "labelkit.maintenance.repair.repair")  # fmt: skip
    for target in (*(target for target, _ in CALLS.values()), *more):
        if target != "labelkit.config.explain_recipe":
            monkeypatch.setattr(target, spy(target))
    monkeypatch.setattr("labelkit.runs.cross_validation.device_name", lambda name: f"on {name}")
    monkeypatch.setattr("labelkit.cleaning.external.import_probs", lambda project, file: "theirs")
    monkeypatch.setattr("labelkit.review.setup.find_unconfirmed", lambda url: None)
    return calls


def says(place, words):
    done = CliRunner().invoke(cli, ["-C", str(place.root), *words])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("name", "flag"), [one for one in ALL if one[1] != "--json"], ids=lambda part: part
)
def test_an_option_is_handed_on(looked_at, reached, name, flag):
    row = row_of(name, flag)
    if isinstance(row, str) and row.startswith("tests/"):
        text = (ROOT / row).read_text()
        assert flag.lstrip("-").replace("-", "_") in text or flag in text
        return
    words = CALLS[TWICE.get(name, name)][1]
    before, added = row if isinstance(row, tuple) else (words, row)
    found = []
    for more in ("", added) if added else (words, ""):
        reached.clear()
        first = before if added or not more else words
        line = [*name.split(), *shlex.split(first), *shlex.split(more if added else "")]
        code, output = says(looked_at, line)
        # Whoever looks back opens the store of then.
        found.append((list(reached), code if not reached else None, output if not reached else ""))
        if flag == "--as-of":
            code, output = says(looked_at, [*line, "--as-of", "nothing"])
            assert code == 2 and "no moment 'nothing'" in output
            return
    assert found[0] != found[1], (name, flag, found)
    assert any(calls for calls, *_ in found) or "explain_recipe" in CALLS[name][0]


@pytest.mark.parametrize("name", JSON)
def test_json_is_an_array_of_objects(place, monkeypatch, name):
    words = JSON[name]
    if not isinstance(words, str):
        value, words = words, CALLS[name][1]
        monkeypatch.setattr(CALLS[name][0], lambda *args, **kwargs: value)
    if words.startswith("tests/"):
        assert '"--json"' in (ROOT / words).read_text()
        return
    line = [*name.split(), *shlex.split(words)]
    done = CliRunner().invoke(cli, ["-C", str(place.root), *line, "--json"])
    assert done.exit_code in (0, 3), done.output
    rows = json.loads(done.stdout)
    assert isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


@pytest.mark.parametrize("words", REFUSED)
def test_what_would_have_no_effect_is_refused(looked_at, words):
    before = snapshot(looked_at)
    code, output = says(looked_at, shlex.split(words.replace(" ;", " ';'")))
    assert code == 2 and REFUSED[words] in output and "Error: " in output, output
    assert snapshot(looked_at) == before


@pytest.mark.parametrize("words", TOLD)
def test_what_a_command_does_not_read_is_told(place, words):
    _, output = says(place, shlex.split(words))
    assert TOLD[words] in output, output


@pytest.mark.parametrize("format_", registry.names("writer"))
@pytest.mark.parametrize("option", ["--fold-set 2-seed0", "--separator ;", "--force", "--as-of 1"])
def test_options_of_an_export_change_it_or_are_refused(place, tmp_path, format_, option):
    """By what is in the files: other folds, another separator, labels of before."""
    call(place, "folds", "--n", "3")
    found = []
    for number, more in enumerate(("", option)):
        target = tmp_path / f"{number}"
        if option == "--force":
            target = tmp_path / "same"
        done = call(place, "export", target, "--format", format_, *more.split())
        files = sorted(target.rglob("*")) if target.is_dir() else [target]
        files = [file for file in files if file.is_file()]
        found.append((done.exit_code, [file.read_bytes() for file in files]))
        told = done.stderr
    if option == "--force":
        assert call(place, "export", target, "--format", format_).exit_code == 2
    elif found[1][0] == 2:
        assert option.split()[0] in told or "separator" in told
    else:
        several = format_ == "csv" or not option.startswith("--separator")
        assert several
        # No clip has several labels here: what parts them is told, and how to bring it in.
        assert found[0] != found[1] or "--separator" in told


@pytest.mark.parametrize("rule", registry.names("selection"))
def test_a_rule_refuses_what_it_does_not_read(looked_at, rule):
    done = call(looked_at, "select", "--rule", rule, "--set", "nothing=3")
    assert done.exit_code == 2 and "nothing" in done.stderr


@pytest.mark.parametrize("name", ["log", "history 00.wav", "query 'from labels_now'", "status"])
def test_a_project_named_before_the_command_is_used(looked_at, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(name)
    assert CliRunner().invoke(cli, words).exit_code == 2
    assert CliRunner().invoke(cli, ["-C", str(looked_at.root), *words]).exit_code == 0
