"""Selections as commands: what they change, whom they leave alone, what they leave behind."""

import json

import numpy as np
import pytest

from labelkit import registry
from labelkit.cleaning.external import import_probs
from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from tests.support.commands import call, refused, rows, snapshot
from tests.support.labelled import CLASSES, PATHS, N, judge, write_probs
from tests.support.projects import copy_project

# Options of each rule that keep some of the 32 noisy clips and not all.
RULES = {
    "clean_share": {"keep": 0.5},
    "complete": {"percentile": 80.0},
    "confident": {"threshold": 0.3, "per_class": 0},
    "rank_mean": {"keep": 0.4, "by_class": False},
    "listed": {"per_class": 3},
    "lwlrap": {"at_least": 0.9, "per_class": 2},
    "mixture": {"posterior": 0.4},
    "small_loss": {"n": 20, "per_class": 4},
}


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_project(labelled, tmp_path / "p")


@pytest.fixture
def judged(project, tmp_path):
    """A project with two external runs, and their names."""
    files = [write_probs(tmp_path / f"{seed}.csv", judge(seed)) for seed in (1, 2)]
    return project, [import_probs(project, file) for file in files]


def labels_now(project):
    """Labels and state of each training clip, in the order of the import."""
    found = rows(project, "select path, labels, state from labels_now where subset = 'train' "
                          "order by clip_id")  # fmt: skip
    assert [path for path, *_ in found] == PATHS[:N]
    return [labels for _, labels, _ in found], [state for *_, state in found]


def given(project):
    return np.eye(4)[[CLASSES.index(name) for (name,) in labels_now(project)[0]]]


def words(options):
    return [word for key, value in options.items() for word in ("--set", f"{key}={value}")]


def by_hand(project, name, options, *probs, **more):
    """Which training clips the rule keeps of the noisy ones."""
    noisy = np.arange(N) >= 8
    kept = np.zeros(N, bool)
    rule = registry.resolve("selection", name)
    more = {key: values[noisy] for key, values in more.items()}
    kept[noisy] = rule(given(project)[noisy], *(p[:N][noisy] for p in probs), **options, **more)
    return kept


def test_every_rule_is_tried():
    assert set(RULES) == set(registry.names("selection"))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_as_a_command(judged, tmp_path, name):
    project, runs = judged
    options, more, extra = RULES[name], {}, []
    if name == "lwlrap":
        folds = dict(rows(project, "select clip_id, fold from folds"))
        more["folds"] = np.array([folds[k] for k in range(N)])
    if name == "listed":
        file = tmp_path / "good.txt"
        file.write_text("".join(f"{path}\n" for path in PATHS[4:25]))
        more["listed"], extra = np.isin(np.arange(N), range(4, 25)), ["--list", file]
    kept = by_hand(project, name, options, judge(1), **more)
    assert 3 <= kept.sum() <= 29
    command = ["select", "--rule", name, "--run", runs[0], *words(options), *extra, "--json"]

    before = snapshot(project)
    dry = call(project, *command, "--dry-run")
    assert dry.exit_code == 0 and "batch: none, dry run" in dry.stderr, dry.output
    assert snapshot(project) == before
    done = call(project, *command)
    assert done.exit_code == 0 and done.stdout == dry.stdout, done.output
    found = json.loads(done.stdout)
    assert {row["path"] for row in found} == {PATHS[k] for k in np.flatnonzero(kept)}
    for row in found:
        k = PATHS.index(row["path"])
        own = judge(1)[k][CLASSES.index(row["labels"][0])]
        assert row["score"] == pytest.approx(own, abs=1e-4) and row["becomes"] == "self_verified"
        assert row["judged_as"] == CLASSES[judge(1)[k].argmax()] and row["state"] == "unverified"
    assert f"kept: {kept.sum()}" in done.stderr and "of: 32" in done.stderr
    batch_id = len(before[1]) + 1
    assert f"batch: {batch_id}" in done.stderr

    # What changed is one batch, with its evidence.
    assert len(snapshot(project)[1]) == batch_id
    _, states = labels_now(project)
    expected = np.where(kept, "self_verified", "unverified")
    assert states[:8] == ["verified"] * 8 and states[8:] == expected[8:].tolist()
    kind, by_person, reason = rows(
        project, "select kind, by_person, reason from batches where batch_id = ?", [batch_id]
    )[0]
    assert (kind, by_person) == ("select", False) and reason.startswith(f"{name}, ")
    assert reason.endswith(f"judged by {runs[0]}")
    for key, value in options.items():
        assert f"{key} {value}" in reason
    events = rows(
        project,
        "select path, source, run_id, score, evidence from label_history where batch_id = ?",
        [batch_id],
    )
    assert len(events) == kept.sum()
    for path, source, run_id, score, evidence in events:
        said, p = json.loads(evidence), judge(1)[PATHS.index(path)]
        assert (source, run_id, said["rule"]) == ("selection", runs[0], reason)
        assert said["judged_as"] == CLASSES[p.argmax()] and 0 <= score <= 1
        assert said["probability"] == pytest.approx(p.max(), abs=1e-4)
    verdicts = rows(project, "select clip_id, class_id, verdict, rule from label_verdicts "
                             "where batch_id = ? order by all", [batch_id])  # fmt: skip
    labels = given(project).argmax(axis=1)
    assert verdicts == [(int(k), int(labels[k]), "present", reason) for k in np.flatnonzero(kept)]

    # Again is harmless, and undone it is as before.
    after = snapshot(project)
    again = call(project, *command)
    assert again.stdout.strip() == "[]" and "batch: none, nothing to change" in again.stderr
    assert snapshot(project) == after
    undone = call(project, "undo", batch_id)
    assert undone.exit_code == 0 and f"clips: {kept.sum()}" in undone.stderr
    columns = "select path, labels, state from labels_now order by clip_id"
    assert rows(project, columns) == [(row[1], row[2], row[3]) for row in before[0]]
    # And can be done anew.
    assert call(project, *command).stdout == done.stdout


def trusted(project):
    return {PATHS[k] for k, state in enumerate(labels_now(project)[1]) if state == "self_verified"}


def test_another_rule_takes_back_what_it_does_not_keep_unless_it_only_adds(judged):
    project, runs = judged
    first = by_hand(project, "clean_share", {"keep": 0.5}, judge(1))
    second = by_hand(project, "clean_share", {"keep": 0.5}, judge(2))
    assert (first & ~second).any() and (second & ~first).any()
    command = ["select", "--rule", "clean_share", "--set", "keep=0.5", "--json", "--run"]
    call(project, *command, runs[0])
    assert trusted(project) == {PATHS[k] for k in np.flatnonzero(first)}
    done = call(project, *command, runs[1], "--add")
    added = {row["path"]: row["becomes"] for row in json.loads(done.stdout)}
    assert added == {PATHS[k]: "self_verified" for k in np.flatnonzero(second & ~first)}
    assert "revoked: 0" in done.stderr
    assert trusted(project) == {PATHS[k] for k in np.flatnonzero(first | second)}
    done = call(project, *command, runs[1])
    revoked = {row["path"]: row["becomes"] for row in json.loads(done.stdout)}
    assert revoked == {PATHS[k]: "unverified" for k in np.flatnonzero(first & ~second)}
    assert f"revoked: {len(revoked)}" in done.stderr and "accepted: 0" in done.stderr
    assert trusted(project) == {PATHS[k] for k in np.flatnonzero(second)}
    last = rows(project, "select distinct verdict from label_verdicts where batch_id = "
                         "(select max(batch_id) from batches)")  # fmt: skip
    assert last == [("unsure",)]


def test_several_runs_judge_together(judged):
    project, runs = judged
    options = {"threshold": 0.3, "per_class": 0}
    kept = by_hand(project, "confident", options, judge(1), judge(2))
    alone = by_hand(project, "confident", options, judge(1))
    assert (kept != alone).any()
    command = ["select", "--rule", "confident", *words(options)]
    done = call(project, *command, "--run", runs[0], "--run", runs[1])
    assert done.exit_code == 0, done.output
    assert trusted(project) == {PATHS[k] for k in np.flatnonzero(kept)}
    assert f"judged by {runs[0]}, {runs[1]}" in done.stderr


def test_runs_on_other_clips_do_not_judge_together(judged, tmp_path):
    project, runs = judged
    few = import_probs(project, write_probs(tmp_path / "few.csv", judge()[:20], PATHS[:20]))
    before = snapshot(project)
    done = call(project, "select", "--rule", "lwlrap", "--run", runs[0], "--run", few)
    refused(done, f"{few} judged other clips than {runs[0]}; take runs on the same clips")
    done = call(project, "select", "--rule", "lwlrap", "--run", runs[0], "--run", "nothing")
    refused(done, "no finished run 'nothing'")
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--rule", "lwlrapp"], "no selection called 'lwlrapp'; did you mean 'lwlrap'"),
        (["--rule", "math:nothing"], "no selection called 'math:nothing'"),
        (["--rule", "clean_share", "--set", "kepp=1"], "no setting select.kepp; did you mean"),
        (["--rule", "clean_share", "--set", "keep=much"], "select.keep must be float, got 'much'"),
        (["--rule", "clean_share", "--set", "keep=1.5"], "keep 1.5 must be above 0 and at most 1"),
        (["--rule", "clean_share", "--set", "keep"], "--set takes key=value"),
        (["--rule", "clean_share", "--set", "per_class=-1"], "per_class -1"),
        (["--rule", "confident", "--set", "threshold=nan"], "must not be negative"),
        (["--rule", "lwlrap", "--set", "at_least=2"], "at_least 2.0 must not be above at_most"),
        (["--rule", "mixture", "--set", "posterior=1"], "posterior 1.0 must be at least 0"),
        (["--rule", "small_loss", "--set", "n=2.5"], "select.n must be int, got '2.5'"),
        (["--rule", "lwlrap", "--set", "rule=mixture"], "rule is no option of a rule; give --rule"),
        (["--rule", "lwlrap", "--set", "judges=a"], "judges is no option of a rule"),
        (["--rule", "lwlrap", "--set", "folds=1"], "no setting select.folds"),
        (["--rule", "listed", "--set", "listed=1"], "no setting select.listed"),
        (["--rule", "listed"], "rule listed takes its clips from a file; give it with --list FILE"),
        (["--rule", "listed", "--list", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--rule", "lwlrap", "--list", "x.txt"], "rule lwlrap takes no list"),
    ],
)
def test_bad_options_are_one_line_and_change_nothing(judged, args, message):
    project, runs = judged
    before = snapshot(project)
    refused(call(project, "select", "--run", runs[0], *args), message)
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"unheard.wav\n", "x.txt lists none of the 40 judged clips; give their paths"),
        ("x.txt", b"", "lists none of the 40 judged clips"),
        ("x.txt", b"\xff\xfe\x00", "cannot be read"),
        ("x.json", b"{", "cannot be read"),
        ("x.json", b"3", "cannot be read"),
        ("x.json", b"[3]", "cannot be read"),
        ("x.json", b'{"00.wav": 3}', "cannot be read"),
    ],
)
def test_a_faulty_list_is_one_line(judged, tmp_path, name, content, message):
    project, runs = judged
    (tmp_path / name).write_bytes(content)
    command = ["select", "--rule", "listed", "--list", tmp_path / name]
    refused(call(project, *command, "--run", runs[0]), message)


def test_lists_as_text_and_as_json(judged, tmp_path):
    project, runs = judged
    command = ["select", "--rule", "listed", "--run", runs[0], "--json", "--list"]
    (tmp_path / "x.txt").write_text(f"\ufeff{PATHS[0]}\n\n {PATHS[9]} \r\n{PATHS[12]}\nno.wav\n")
    done = call(project, *command, tmp_path / "x.txt")
    assert {row["path"] for row in json.loads(done.stdout)} == {PATHS[9], PATHS[12]}
    assert "x.txt: 1 of 4 are no judged clips" in done.stderr
    (tmp_path / "x.json").write_text(json.dumps([PATHS[9], PATHS[13]]))
    done = call(project, *command, tmp_path / "x.json")
    changed = {row["path"]: row["becomes"] for row in json.loads(done.stdout)}
    assert changed == {PATHS[12]: "unverified", PATHS[13]: "self_verified"}


def test_a_list_of_corrections_vouches_only_for_labels_as_they_stand(judged, tmp_path):
    """As argus published its: labels that are right, labels that were wrong, clips to leave out."""
    project, runs = judged
    names = [labels[0] for labels in labels_now(project)[0]]
    other = "Car" if names[10] != "Car" else "Dog"
    corrections = {PATHS[9]: names[9], PATHS[10]: other, PATHS[11]: "remove",
                   PATHS[12]: f"{names[12]},{other}", PATHS[13]: [names[13]]}  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(corrections))
    done = call(project, "select", "--rule", "listed", "--run", runs[0], "--json",
                "--list", tmp_path / "x.json")  # fmt: skip
    assert {row["path"] for row in json.loads(done.stdout)} == {PATHS[9], PATHS[13]}
    assert "x.json: 3 clips have other labels there and are not kept" in done.stderr
    assert labels_now(project)[0] == [[name] for name in names]


def test_nothing_is_left_to_a_machine(judged):
    project, runs = judged
    names = [labels[0] for labels in labels_now(project)[0]]
    file = project.root / "c.json"
    file.write_text(json.dumps(dict(zip(PATHS[8:N], names[8:], strict=True))))
    import_labels(project, file, "corrections", FormatSpec())
    done = call(project, "select", "--rule", "lwlrap", "--run", runs[0])
    refused(done, "no clip is left to a machine to decide: people decided on all")


@pytest.mark.slow
def test_a_trained_run_judges_out_of_fold(verified_project, tmp_path):
    source, *_ = verified_project
    project = copy_project(source, tmp_path / "copy")
    train_run, verify_run = (
        rows(project, "select min_by(run_id, batch_id) from runs where kind = ?", [kind])[0][0]
        for kind in ("train", "verify")
    )
    human = "select path, labels, state from labels_now where state in ('verified', 'relabeled')"
    before = rows(project, f"{human} order by path")
    done = call(project, "select", "--rule", "clean_share", "--set", "keep=0.5", "--json",
                "--run", train_run, "--run", verify_run)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert rows(project, f"{human} order by path") == before
    found = rows(
        project,
        "select e.run_id, p.run_id, r.fold, f.fold, c.subset from label_events e "
        "join runs r using (run_id) join clips c using (clip_id) "
        "left join predictions p on p.run_id = e.run_id and p.clip_id = e.clip_id "
        "join folds f on f.clip_id = e.clip_id and f.fold_set = r.fold_set "
        "where e.batch_id = (select max(batch_id) from batches)",
    )
    assert len(found) == len(json.loads(done.stdout)) > 5
    for said, judge_run, own_fold, clip_fold, subset in found:
        assert said == judge_run and own_fold == clip_fold and subset == "train"
        assert said.startswith(f"{train_run}/")
    with project.store.read() as session:
        assert session.find_leaks() == []
