"""Classes get other names, become one, or go: nobody's decision, and everything follows."""

import json
import shlex

import numpy as np
import pytest

from labelkit.cleaning.external import import_probs
from labelkit.cleaning.inputs import read_inputs
from labelkit.cleaning.score import class_table, score
from labelkit.cleaning.selection import select
from labelkit.labels.history import history
from labelkit.labels.undo import undo
from labelkit.project import create_project
from labelkit.records import Batch, LabelEvent, Predictions, Run, Scores, Suggestions, Verdict
from tests.support.commands import call, refused, rows
from tests.support.labelled import CLASSES, PATHS, judge, write_probs
from tests.support.projects import copy_project


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_project(labelled, tmp_path / "p")


@pytest.fixture
def judged(project, tmp_path):
    """A project, and a run of somebody's probabilities."""
    return project, import_probs(project, write_probs(tmp_path / "a.csv"))


def states(project):
    return rows(project, "select path, state from labels_now order by path")


def labels(project):
    return dict(rows(project, "select path, labels from labels_now"))


def sound(project):
    done = call(project, "doctor", "--fast", "--json")
    found = [row for row in json.loads(done.stdout) if row["state"] == "problem"]
    assert found == [] and done.exit_code == 0, done.output


def scores(project, run_id):
    return {row.path: row.scores for row in score(project, run_id=run_id, lowest=100)}


NAMES = ["Hund", "a dog", "Dog, barking", "собака", "dog", 'the "Dog"', "Dog;Cat"]


@pytest.mark.parametrize("name", NAMES)
def test_another_name_is_no_decision(judged, name):
    project, run_id = judged
    before, told, found = states(project), labels(project), scores(project, run_id)
    done = call(project, "classes", "rename", "Dog", name)
    assert done.exit_code == 0 and "classes: 4" in done.stderr, done.output
    assert states(project) == before
    new = {path: [name if n == "Dog" else n for n in names] for path, names in told.items()}
    assert {path: set(names) for path, names in labels(project).items()} == {
        path: set(names) for path, names in new.items()
    }
    # What the run said of Dog it has said of the class, whatever it is called.
    assert scores(project, run_id) == found
    assert [row.class_ for row in class_table(read_inputs(project, run_id))].count(name) == 1
    assert rows(project, "select count(*) from predictions_long where class = ?", [name]) == [
        (len(PATHS),)
    ]
    sound(project)
    undo(project, rows(project, "select max(batch_id) from batches where kind = 'classes'")[0][0])
    assert labels(project) == told and states(project) == before
    assert scores(project, run_id) == found
    sound(project)


def test_merged_classes_are_one(judged, tmp_path):
    project, run_id = judged
    before = states(project)
    done = call(project, "classes", "merge", "Car", "Rain", "Dog", "--json")
    assert json.loads(done.stdout)[0]["classes"] == 2
    assert states(project) == before
    assert rows(project, "select name from classes order by class_id") == [("Bird",), ("Dog",)]
    assert {n for names in labels(project).values() for n in names} == {"Bird", "Dog"}
    probs = judge()
    with project.store.read() as session:
        clip_ids, _, found = session.predictions(run_id)
    merged = np.stack([probs[:, 0], probs[:, 1:].sum(axis=1)], axis=1)
    assert np.allclose(found, np.minimum(merged, 1)[clip_ids], atol=1e-6)
    # As a run would be that knew the two classes alone.
    other = import_probs(
        project, write_probs(tmp_path / "b.csv", np.minimum(merged, 1), names=["Bird", "Dog"])
    )
    mine, theirs = scores(project, run_id), scores(project, other)
    assert mine.keys() == theirs.keys()
    for path, values in mine.items():
        assert values == pytest.approx(theirs[path], abs=1e-5), path
    sound(project)
    assert call(project, "undo", done_batch(project)).exit_code == 0
    assert {n for names in labels(project).values() for n in names} == set(CLASSES)
    sound(project)


def done_batch(project):
    return str(rows(project, "select max(batch_id) from batches where kind = 'classes'")[0][0])


def test_a_retired_class_is_gone_and_comes_again(judged):
    project, run_id = judged
    before, told = states(project), labels(project)
    done = call(project, "classes", "retire", "Rain")
    n = sum("Rain" in names for names in told.values())
    assert f"clips: {n}" in done.stderr and f"left without: {n}" in done.stderr
    assert states(project) == before
    assert labels(project) == {p: [x for x in names if x != "Rain"] for p, names in told.items()}
    with project.store.read() as session:
        assert session.predictions(run_id)[2].shape[1] == 3
    done = call(project, "label", PATHS[0], "Rain", "--add-classes")
    assert done.exit_code == 0 and labels(project)[PATHS[0]] == ["Rain"]
    # It is the class it was, so what was said of it counts again.
    others = {p: v for p, v in labels(project).items() if p != PATHS[0]}
    assert others == {p: v for p, v in told.items() if p != PATHS[0]}
    sound(project)


REFUSED = [
    ("rename Dogg Hund", "no class 'Dogg'; did you mean 'Dog'"),
    ("rename Dog Rain", "labelkit classes merge Dog Rain"),
    ("rename Dog Dog", "there is a class 'Dog' already"),
    ("rename Dog remove", "can be no name of a class"),
    ("rename Dog ''", "can be no name of a class"),
    ("rename Dog ' Dog'", "can be no name of a class"),
    ("merge Dog Dog", "cannot be merged into itself"),
    ("merge Cow Dog", "no class 'Cow'"),
    ("merge Dog Cow", "no class 'Cow'"),
    ("retire Dog Cow", "no class 'Cow'"),
    ("retire Bird Car Dog Rain", "no class would be left"),
    ("--json rename Dog Hund", "--json is for the table of classes"),
    ("--run x retire Dog", "--run is for the table of classes"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_what_cannot_be_is_refused(project, words, message):
    before = rows(project, "from batches")
    done = call(project, "classes", *shlex.split(words))
    assert done.exit_code == 2 and message in done.stderr, done.output
    assert rows(project, "from batches") == before


def test_names_may_go_round(project):
    told = labels(project)
    for old, new in (("Dog", "x"), ("Rain", "Dog"), ("x", "Rain")):
        assert call(project, "classes", "rename", old, new).exit_code == 0
    swap = {"Dog": "Rain", "Rain": "Dog"}
    assert labels(project) == {p: [swap.get(n, n) for n in v] for p, v in told.items()}
    sound(project)
    # Only the newest can be taken back while others rest on it.
    first = rows(project, "select min(batch_id) from batches where kind = 'classes'")[0][0]
    done = call(project, "undo", first)
    refused(done, f"was changed since by batch {first + 2}", f"labelkit undo {first + 2}")
    for batch in (first + 2, first + 1, first):
        assert call(project, "undo", batch).exit_code == 0
    assert labels(project) == told
    sound(project)


def test_a_run_of_an_older_vocabulary_is_taken_as_it_was_meant(project):
    """A training takes hours; meanwhile somebody renames, merges and retires."""
    with project.store.read() as session:
        as_of, names = session.last_batch(), session.classes()
    for words in (["rename", "Bird", "Vogel"], ["merge", "Car", "Dog"], ["retire", "Rain"]):
        assert call(project, "classes", *words).exit_code == 0
    clips = rows(project, "select clip_id from labels_now where state = 'unverified' limit 4")
    ids = np.array([clip_id for (clip_id,) in clips])
    event = [
        LabelEvent(clip_id=int(i), state="self_verified", labels=[k], source="t", run_id="late")
        for k, i in enumerate(ids)
    ]
    run = Run(run_id="late", kind="train", recipe="t", settings={}, seed=0, classes=names,
              as_of=as_of)  # fmt: skip
    with project.store.write() as session:
        session.append(
            Batch(
                key="late", kind="train", actor="t", by_person=False, runs=[run], events=event,
                verdicts=[Verdict(clip_id=int(i), class_id=k, verdict="present", rule="t")
                          for k, i in enumerate(ids)],
                predictions=[Predictions(run_id="late", clip_ids=ids,
                                         probs=np.eye(4, dtype=np.float32))],
                scores=[Scores(run_id="late", metric="pairs", clip_ids=ids, values=np.ones(4),
                               class_ids=np.arange(4))],
                suggestions=[Suggestions(run_id="late", clip_ids=ids, given=[[k] for k in range(4)],
                                         suggested=[[k, (k + 1) % 4] for k in range(4)],
                                         reasons=["x"] * 4)],
            )
        )  # fmt: skip
        assert session.predictions("late")[2].tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]
    meant = [["Vogel"], ["Dog"], ["Dog"], []]
    assert [rows(project, "select labels from labels_now where clip_id = ?", [int(i)])[0][0]
            for i in ids] == meant  # fmt: skip
    found = rows(
        project, "select suggested from suggestions where run_id = 'late' order by clip_id"
    )
    assert sorted(map(tuple, (s for (s,) in found))) == [(0,), (0, 1), (1,), (1,)]
    assert len(rows(project, "from scores where metric = 'pairs'")) == 3
    sound(project)


def test_a_word_that_is_absent_ends_with_a_merge(project):
    clip = rows(project, "select clip_id from labels_now where state = 'verified' limit 1")[0][0]
    said = [Verdict(clip_id=clip, class_id=k, verdict="absent", rule="t") for k in (1, 2, 3)]
    with project.store.write() as session:
        session.append(Batch(key="v", kind="t", actor="t", by_person=True, verdicts=said))
    call(project, "classes", "merge", "Car", "Dog")
    absent = "select class from label_states where verdict = 'absent' and clip_id = ?"
    assert rows(project, absent, [clip]) == [("Rain",)]
    # Said of the merged class, it counts.
    with project.store.write() as session:
        place = session.classes().index("Dog")
        word = Verdict(clip_id=clip, class_id=place, verdict="absent", rule="t")
        session.append(Batch(key="w", kind="t", actor="t", by_person=True, verdicts=[word]))
    assert sorted(rows(project, absent, [clip])) == [("Dog",), ("Rain",)]
    sound(project)


def test_what_came_before_can_be_taken_back_after(judged):
    """A rule trusted clips before a merge; its undo takes the trust, and leaves the merge."""
    project, run_id = judged
    before = states(project)
    _, report = select(project, "clean_share", run_ids=[run_id], options={"keep": 0.5})
    assert states(project) != before
    call(project, "classes", "merge", "Car", "Dog")
    undo(project, report.batch)
    assert states(project) == before
    assert "Car" not in {n for names in labels(project).values() for n in names}
    sound(project)


def test_the_history_of_a_clip_tells(project):
    path = next(p for p, names in labels(project).items() if names == ["Car"])
    call(project, "classes", "rename", "Car", "Auto")
    call(project, "classes", "merge", "Auto", "Dog")
    found = [(e.state, e.reason) for e in history(project, path) if e.what == "class"]
    assert found == [("named", "renames Car to Auto"), ("merged", "merges Auto into Dog")]
    past = call(project, "history", path, "--as-of", "2", "--json")
    assert all(row["what"] != "class" for row in json.loads(past.stdout))
    assert json.loads(past.stdout)[0]["labels"] == ["Car"]


def test_what_it_was_is_seen_as_it_was(project):
    told = labels(project)
    moment = rows(project, "select max(batch_id) from batches")[0][0]
    call(project, "classes", "merge", "Car", "Dog")
    call(project, "classes", "rename", "Bird", "Vogel")
    done = call(
        project, "query", "--json", "--as-of", moment, "select path, labels from labels_now"
    )
    assert {row["path"]: row["labels"] for row in json.loads(done.stdout)} == told


LABEL = [
    # Words, and what becomes of a clip that is unverified Bird.
    (["Bird"], ["Bird"], "verified"),
    (["Dog"], ["Dog"], "relabeled"),
    (["--none"], [], "relabeled"),
    (["--reject"], [], "rejected"),
    (["Wolf", "--add-classes"], ["Wolf"], "relabeled"),
]


@pytest.mark.parametrize(("words", "after", "state"), LABEL)
def test_one_clip_by_hand(project, words, after, state):
    path = rows(
        project, "select path from labels_now where state = 'unverified' and labels = ['Bird']"
    )[0][0]
    done = call(project, "label", path, *words, "--reason", "heard it", "--actor", "ann", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["state"] == state
    found = rows(project, "select labels, state from labels_now where path = ?", [path])
    assert found == [(after, state)]
    last = history(project, path)[-1]
    assert (last.actor, last.reason, last.by_person) == ("ann", "heard it", True)
    # The same once more changes nothing.
    again = call(project, "label", path, *words, "--json")
    assert json.loads(again.stdout)[0]["batch"] is None
    sound(project)
    assert call(project, "undo", last.batch_id).exit_code == 0
    found = rows(project, "select labels, state from labels_now where path = ?", [path])
    assert found == [(["Bird"], "unverified")]


NOT_BY_HAND = [
    (["nowhere.wav", "Dog"], "no clip 'nowhere.wav'"),
    ([PATHS[9], "Dogg"], "did you mean 'Dog'"),
    ([PATHS[9]], "name the classes, or give --none, or --reject"),
    ([PATHS[9], "Dog", "--reject"], "name the classes, or give --none, or --reject"),
    ([PATHS[9], "--none", "--reject"], "name the classes, or give --none, or --reject"),
    ([PATHS[9], "Dog", "Rain"], "labelkit labels several"),
]


@pytest.mark.parametrize(("words", "message"), NOT_BY_HAND)
def test_not_by_hand(project, words, message):
    before = rows(project, "from batches")
    call(project, "labels", "one")
    n = rows(project, "select count(*) from batches")
    done = call(project, "label", *words)
    assert done.exit_code == 2 and message in done.stderr, done.output
    assert rows(project, "select count(*) from batches") == n and before


def test_a_change_set_speaks_of_classes_as_they_are(project, labelled, tmp_path):
    other = copy_project(labelled, tmp_path / "other")
    path = next(p for p, names in labels(project).items() if names == ["Car"])
    call(project, "classes", "rename", "Car", "Auto")
    call(project, "label", path, "Auto", "--reason", "heard")
    done = call(project, "changes", "export", tmp_path / "c.json", "--since", "3")
    assert "renames Car to Auto" in done.stderr and "the other copy first" in done.stderr
    assert call(other, "classes", "rename", "Car", "Auto").exit_code == 0
    done = call(other, "changes", "import", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    assert labels(other) == labels(project) and states(other) == states(project)
    sound(other)


def test_a_change_set_leaves_undone_imports_out(project, labelled, tmp_path):
    other = copy_project(labelled, tmp_path / "other")
    file = tmp_path / "wrong.csv"
    file.write_text("fname,label\nx.wav,Dog\n")
    call(project, "import", file, "--format", "csv", "--metadata-only")
    batch = rows(project, "select max(batch_id) from batches")[0][0]
    assert call(project, "undo", batch).exit_code == 0
    done = call(project, "changes", "export", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    assert call(other, "changes", "import", tmp_path / "c.json").exit_code == 0
    assert labels(other) == labels(project)
    sound(other)


def do(project, *lines):
    """Commands that all work; `last` is the number of the newest batch then."""
    for line in lines:
        last = rows(project, "select max(batch_id) from batches")[0][0]
        words = shlex.split(line.replace("last", str(last)))
        done = call(project, *words)
        assert done.exit_code == 0, (line, done.output)


@pytest.fixture
def few(tmp_path):
    """Four clips of classes A, B, C, by one import; no recordings."""
    (tmp_path / "audio").mkdir()
    few, _ = create_project(tmp_path, tmp_path / "audio")
    for name, lines in (("l", "a.wav,A\nb.wav,B\nc.wav,C\n"), ("m", "x.wav,B\n"),
                        ("n", "y.wav,Canine\nz.wav,A\n")):  # fmt: skip
        (tmp_path / f"{name}.csv").write_text(f"fname,label\n{lines}")
    do(few, f"import {tmp_path}/l.csv --format csv --metadata-only")
    return few


IMPORT = "import {}/{}.csv --format csv --metadata-only --add-classes"
# What is done after the import of a, b and c, and what the clips have then.
ORDERS = {
    "a retired class is given again": (
        ["classes retire A", "label b.wav A --add-classes"],
        {"a": "A", "b": "A", "c": "C"},
    ),
    "so by corrections": (
        ["classes retire A", "correct b A"],
        {"a": "A", "b": "A", "c": "C"},
    ),
    "and taken back": (
        ["classes retire A", "label b.wav A --add-classes", "undo last"],
        {"a": "", "b": "B", "c": "C"},
    ),
    "a new class, taken back and given again": (
        ["label b.wav New --add-classes", "undo last", "undo last"],
        {"a": "A", "b": "New", "c": "C"},
    ),
    "a class of an undone import that others became part of": (
        ["m n", "classes merge A Canine", "undo 2"],
        {"a": "Canine", "b": "B", "c": "C"},
    ),
    "a class that an undone import brought again": (
        ["classes retire A", "m n", "label b.wav A", "undo 3"],
        {"a": "A", "b": "A", "c": "C"},
    ),
    "a decision on a clip that is gone": (
        ["m m", "label x.wav C", "undo 3", "undo 2", "undo 4", "undo 5"],
        {"a": "A", "b": "B", "c": "C", "x": "C"},
    ),
    "merged, swapped names": (
        ["classes merge A B", "classes rename B A", "label c.wav A"],
        {"a": "A", "b": "A", "c": "A"},
    ),
    "retired between two of one name": (
        ["classes rename A D", "classes retire D", "label a.wav A --add-classes"],
        {"a": "A", "b": "B", "c": "C"},
    ),
}


@pytest.mark.parametrize(("steps", "found"), ORDERS.values(), ids=ORDERS)
def test_whatever_the_order(few, tmp_path, steps, found):
    for step in steps:
        if step.startswith("m "):
            do(few, IMPORT.format(tmp_path, step[2:]))
        elif step.startswith("correct "):
            _, clip, name = step.split()
            (tmp_path / "c.json").write_text(json.dumps({f"{clip}.wav": name}))
            do(few, f"import {tmp_path}/c.json --format corrections --add-classes")
        else:
            do(few, step)
    assert {p[:-4]: "".join(v) for p, v in labels(few).items()} == found
    sound(few)


IMPOSSIBLE = {
    "a ring of merges": (["classes merge A B", "undo last", "classes merge B A"], "undo 3"),
    "a merge into a class that is gone": (
        ["classes merge A B", "undo last", "classes retire B"],
        "undo 3",
    ),
    "an import that came back, with a label on it": (
        ["m m", "undo 2", "undo 3", "label x.wav C"],
        "undo 4",
    ),
    "one label a clip": (
        ["labels several", "label a.wav A B", "classes merge A B", "labels one"],
        "undo 4",
    ),
}


@pytest.mark.parametrize(("steps", "last"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_would_lose_labels_is_refused(few, tmp_path, steps, last):
    for step in steps:
        do(few, IMPORT.format(tmp_path, step[2:]) if step.startswith("m ") else step)
    before = labels(few), rows(few, "from batches")
    done = call(few, *last.split())
    assert done.exit_code in (2, 3) and done.stderr.count("\n") == 1, done.output
    assert "labelkit" in done.stderr and "Traceback" not in done.output
    assert (labels(few), rows(few, "from batches")) == before
    sound(few)


@pytest.mark.parametrize("words", [["retire", "Bird"], ["merge", "Bird", "Rain"]])
def test_looking_back_reads_probabilities_of_today_s_runs_with_the_classes_of_then(judged, words):
    project, run_id = judged
    moment = rows(project, "select max(batch_id) from batches")[0][0]
    before = call(project, "score", "--as-of", moment, "--run", run_id, "--json").stdout
    assert call(project, "classes", *words).exit_code == 0
    after = call(project, "score", "--as-of", moment, "--run", run_id, "--json")
    assert after.exit_code == 0 and after.stdout == before


def test_a_score_of_a_run_of_before_is_judged_by_its_columns(judged):
    project, run_id = judged
    assert call(project, "classes", "retire", "Bird").exit_code == 0
    assert call(project, "score", "--run", run_id).exit_code == 0
    kept = rows(project, "select run_id from runs where kind = 'score' and part_of is not null")
    with project.store.read() as session:
        mine = session.predictions(run_id)
        for (name,) in kept:
            assert np.array_equal(session.predictions(name)[2], mine[2])


def test_options_of_the_table_do_nothing_for_the_rest(project):
    before = rows(project, "from batches")
    for words in (["--as-of", "1"], ["--wide"], ["--json"]):
        done = call(project, "classes", *words, "rename", "Dog", "Hund")
        assert done.exit_code == 2 and f"{words[0]} is for the table" in done.stderr
    assert rows(project, "from batches") == before


@pytest.mark.parametrize("name", ["", " Dog", "Dog ", "remove", "two\nlines", "a\tb"])
def test_no_class_gets_a_name_by_hand_that_none_can_have(project, name):
    before = rows(project, "from batches")
    done = call(project, "label", PATHS[9], name, "--add-classes")
    assert done.exit_code == 2 and "can be no name of a class" in done.stderr, done.output
    assert rows(project, "from batches") == before


def test_a_class_by_hand_that_looks_like_another_is_told(project):
    assert "look alike" in call(project, "label", PATHS[9], "dog", "--add-classes").stderr


def test_a_merge_counts_the_clips_that_change(project):
    told = labels(project)
    done = call(project, "classes", "merge", "Car", "Dog", "--json")
    assert json.loads(done.stdout)[0]["clips"] == sum("Car" in names for names in told.values())


def test_a_comparison_tells_of_names_that_changed(project):
    call(project, "classes", "merge", "Car", "Dog")
    done = call(project, "diff", "1")
    assert "under the names of today; in between merges Car into Dog" in done.stderr


def test_a_name_that_was_taken_back_is_no_former_name(few):
    def former():
        with few.store.read() as session:
            return session.vocabulary().former

    do(few, "classes rename A X")
    assert former() == {"A": "X"}
    do(few, "undo last")
    assert former() == {}
    do(few, "classes rename A X", "classes rename X Y", "classes merge B C")
    assert former() == {"A": "Y", "X": "Y", "B": "C"}
    do(few, "classes rename Y A", "undo 6")
    assert former() == {}
