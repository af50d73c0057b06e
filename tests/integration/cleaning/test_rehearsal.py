"""A rehearsal changes nothing of the user's, plants what it says, and counts what came of it."""

import hashlib
import json
import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from labelkit.cleaning.rehearsal import rehearse
from labelkit.cleaning.score import score
from labelkit.cleaning.simulated_project import deal_parts, read_source
from labelkit.commands.options import Place
from labelkit.commands.rehearsal import rehearse as command
from labelkit.config import FormatSpec, read_recipe
from labelkit.errors import InvalidInput, UnknownName
from labelkit.labels.importing import import_labels
from labelkit.noise.classes import class_similarity
from labelkit.noise.simulate import plant_confusable
from labelkit.output import as_row
from labelkit.project import create_project, open_project
from labelkit.records import Batch, LabelEvent, Verdict, multi_hot
from labelkit.runs.dataset import read_dataset
from labelkit.runs.folds import freeze_folds
from tests.support import shared
from tests.support.clips import pair_clips, write_csv, write_tone
from tests.support.projects import TINY, copy_project

RATE = 0.3
FIRST_STATES = "select path, arg_min(state, event_id) from label_history group by path"


class Stop(Exception):
    """Raised in the middle of a rehearsal, as Ctrl-C would be."""


def stop_at(words):
    def say(line):
        if words in line:
            raise Stop(line)

    return say


def plan(project, recipe, **options):
    """Everything before the first training; returns the folder of the rehearsal."""
    before = set(project.work.glob("rehearsals/*"))
    with pytest.raises(Stop):
        rehearse(project, recipe, rate=RATE, workers=1, say=stop_at("part 1"), **options)
    (folder,) = set(project.work.glob("rehearsals/*")) - before
    return folder


def scratches(folder, project):
    """Label table, folds and truth of each part."""
    found = []
    for part in sorted(folder.glob("?")):
        scratch = type(project)(part, project.audio_dir)
        with scratch.store.read() as session:
            table, sets = session.labels(), session.fold_sets()
            folds = session.folds(sets[-1]) if sets else {}
        found.append((scratch, table, folds, json.loads((part / "truth.json").read_text())))
    return found


def content(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def rows(project, sql):
    with project.store.read() as session:
        return session.rows(sql)


def tone_set(root, clips, names=("label", "verified", "source", "fold")):
    """A project on short tones; each clip is a row of the given columns."""
    (root / "audio").mkdir(parents=True)
    for number in range(len(clips)):
        write_tone(root / "audio" / f"{number:03d}.wav", 200 + 37 * number, seconds=0.2)
    table = [(f"{number:03d}.wav", *row) for number, row in enumerate(clips)]
    file = write_csv(root / "labels.csv", ("fname", *names), table)
    project, _ = create_project(root, root / "audio")
    columns = {
        f"{key}_column": name
        for key, name in (("verified", "verified"), ("group", "source"), ("fold", "fold"))
        if name in names
    }
    import_labels(project, file, "csv", FormatSpec(**columns))
    return project


def make_grouped(demo_clips, root):
    """The small demonstration set, two verified clips of a class from one source."""
    clips, folder = demo_clips
    seen, rows_ = Counter(), []
    for clip in clips:
        source = ""
        if clip.verified and clip.subset == "train":
            source = f"{clip.label}-{max(seen[clip.label] - 1, 0)}"
            seen[clip.label] += 1
        if clip.subset == "train":
            rows_.append((clip.fname, clip.label, int(clip.verified), source))
    root.mkdir()
    file = write_csv(root / "train.csv", ("fname", "label", "verified", "source"), rows_)
    project, _ = create_project(root, folder / "audio")
    import_labels(
        project, file, "csv", FormatSpec(verified_column="verified", group_column="source")
    )
    freeze_folds(project, n=3)
    read_dataset(project, read_recipe("quick", TINY), workers=1)


def grouped_project(demo_clips, root):
    """A copy of it to write to."""
    folder, _ = shared.once("grouped", lambda folder: make_grouped(demo_clips, folder / "p"))
    return copy_project(open_project(folder / "p"), root)


@pytest.fixture(scope="module")
def rehearsed(demo_clips, tiny_recipe, tmp_path_factory):
    """A finished rehearsal, its project, and the store's hash before."""
    project = grouped_project(demo_clips, tmp_path_factory.mktemp("r") / "p")
    before = content(project.store.path)
    found = rehearse(project, tiny_recipe, kind="uniform", rate=RATE, workers=1)
    return project, found, before


@pytest.mark.slow
def test_nothing_of_the_users_is_changed(rehearsed):
    project, found, before = rehearsed
    assert content(project.store.path) == before
    assert {path.name for path in project.root.iterdir()} == {
        "train.csv", "labels.duckdb", "labels.duckdb.lock", "labels.duckdb.queue",
        "labels.duckdb.door", "labels.duckdb.hwm", "labelkit.toml",
        ".labelkit",
    }  # fmt: skip
    assert {path.name for path in project.work.iterdir()} == {
        ".gitignore", "embeddings", "features", "rehearsals",
    }  # fmt: skip
    # The spectrograms are shared.
    assert not list((project.work / "rehearsals").rglob("features"))
    assert found.folder.is_relative_to(project.work / "rehearsals")


@pytest.mark.slow
def test_whole_groups_are_hidden_and_half_of_every_class(rehearsed):
    project, found, _ = rehearsed
    with project.store.read() as session:
        table, folds = session.labels(), session.folds("3-seed0")
    label = {path: table.names(i)[0] for i, path in enumerate(table.paths)}
    group = dict(zip(table.paths, table.groups, strict=True))
    fold = {path: folds[i] for path, i in zip(table.paths, table.clip_ids.tolist(), strict=True)}
    verified = {
        p for p, state in zip(table.paths, table.states, strict=True) if state == "verified"
    }
    hidden_before = set()
    for scratch, now, scratch_folds, truth in scratches(found.folder, project):
        assert truth.keys() <= verified and not truth.keys() & hidden_before
        hidden_before |= truth.keys()
        assert truth == {path: [label[path]] for path in truth}
        counts = Counter(label[path] for path in truth)
        total = Counter(label[path] for path in verified)
        assert all(abs(counts[name] - total[name] / 2) <= 1 for name in total)
        split = {group[p] for p in truth} & {group[p] for p in verified - truth.keys()}
        assert not split
        first = dict(rows(scratch, FIRST_STATES))
        assert {p for p, state in first.items() if state == "verified"} == verified - truth.keys()
        assert set(now.paths) == set(table.paths)
        assert {
            p: scratch_folds[i] for p, i in zip(now.paths, now.clip_ids.tolist(), strict=True)
        } == fold
        given = {path: now.names(i)[0] for i, path in enumerate(now.paths)}
        changed = {path for path in given if given[path] != label[path]}
        assert changed <= truth.keys() and len(changed) == math.ceil(RATE * len(truth))
        with scratch.store.read() as session:
            assert session.find_leaks() == []
    assert hidden_before == verified and found.hidden == len(verified)


@pytest.mark.slow
def test_the_figures_are_what_the_scratch_stores_say(rehearsed):
    """Counted anew from the labels, by the plain definition of each figure."""
    project, found, _ = rehearsed
    sums, precisions, efforts, accuracies = Counter(), [], [], []
    for scratch, now, _, truth in scratches(found.folder, project):
        state = dict(zip(now.paths, now.states.tolist(), strict=True))
        given = {path: now.names(i) for i, path in enumerate(now.paths)}
        # The order and the suggestions are those of `labelkit score`.
        with scratch.store.read() as session:
            run_id = session.last_run(["verify"])
        clips = [
            (
                clip.path,
                given[clip.path] != truth[clip.path],
                state[clip.path],
                [clip.suggested] == truth[clip.path],
            )
            for clip in score(scratch, run_id=run_id, lowest=1000)
            if clip.path in truth
        ]
        wrong = np.array([clip[1] for clip in clips])
        n = wrong.sum()
        sums["planted"] += n
        sums["hidden"] += len(clips)
        sums["self_verified"] += sum(clip[2] == "self_verified" for clip in clips)
        sums["self_verified_right"] += sum(
            clip[2] == "self_verified" and not clip[1] for clip in clips
        )
        sums["found"] += wrong[:n].sum()
        sums["repaired"] += sum(clip[1] and clip[3] for clip in clips[:n])
        sums["destroyed"] += sum(not clip[1] and not clip[3] for clip in clips[:n])
        accuracies.append(np.mean([clip[3] for clip in clips]))
        precisions.append(average_precision_score(wrong, -np.arange(len(clips))))
        needed = math.ceil(0.9 * n - 1e-9)
        efforts.append((np.flatnonzero(wrong)[needed - 1] + 1) / len(clips))
    n_right = sums["hidden"] - sums["planted"]
    for name in ("hidden", "planted", "self_verified", "self_verified_right", "found", "repaired",
                 "destroyed"):  # fmt: skip
        assert getattr(found, name) == sums[name], name
    assert sums["self_verified"] > 0 and sums["found"] > 0
    assert found.precision == sums["self_verified_right"] / sums["self_verified"]
    assert found.recall == sums["self_verified_right"] / n_right
    assert found.found_share == sums["found"] / sums["planted"]
    assert found.average_precision == pytest.approx(np.mean(precisions))
    assert found.effort == pytest.approx(np.mean(efforts))
    # Of the parts, which need not be of the same size.
    assert found.hidden_accuracy == pytest.approx(np.mean(accuracies))
    low, high = binomtest(sums["self_verified_right"], sums["self_verified"]).proportion_ci(
        method="wilson"
    )
    assert (found.precision_low, found.precision_high) == (low, high)


@pytest.mark.slow
def test_the_same_again_shows_the_finished_result(rehearsed, tiny_recipe):
    project, found, _ = rehearsed
    said = []
    again = rehearse(project, tiny_recipe, kind="uniform", rate=RATE, workers=1, say=said.append)
    assert again == found
    assert not [line for line in said if "round" in line]


@pytest.mark.slow
def test_killed_it_goes_on(rehearsed, demo_clips, tiny_recipe, tmp_path):
    """Stopped after the last training of the first part, and before the second one's first."""
    _, found, _ = rehearsed
    project = grouped_project(demo_clips, tmp_path / "p")
    options = {"kind": "uniform", "rate": RATE, "workers": 1}
    with pytest.raises(Stop):
        rehearse(project, tiny_recipe, **options, say=stop_at("round 2"))
    with pytest.raises(Stop):
        rehearse(project, tiny_recipe, **options, say=stop_at("part 2"))
    said = []
    after = rehearse(project, tiny_recipe, **options, say=said.append)
    assert sum("round" in line for line in said) == 3
    assert replace(after, folder=found.folder) == found


@pytest.mark.slow
def test_the_command_prints_a_table_or_json(rehearsed):
    project, found, _ = rehearsed
    changes = [part for text in TINY for part in ("--set", text)]
    options = ["--kind", "uniform", "--rate", str(RATE), "--workers", "1", *changes]
    done = CliRunner().invoke(command, options, obj=Place(project.root, 30.0))
    assert done.exit_code == 0, done.output
    assert f"{found.planted} of {found.hidden} hidden clips" in done.stdout
    assert f"{found.precision:.1%} ({found.precision_low:.1%} to " in done.stdout
    assert "uniform noise at 0.3, 0.5 hidden; accuracy of quick" in done.stderr
    done = CliRunner().invoke(command, [*options, "--json"], obj=Place(project.root, 30.0))
    (values,) = json.loads(done.stdout)
    assert list(values) == list(as_row(found))
    assert values["precision"] == found.precision and values["found"] == found.found


@pytest.mark.slow
def test_another_label_state_is_another_rehearsal(demo_clips, tiny_recipe, tmp_path):
    """What people decide counts; what a machine did on top of it does not."""
    project = grouped_project(demo_clips, tmp_path / "p")
    first = plan(project, tiny_recipe, kind="uniform")
    with project.store.read() as session:
        table = session.labels()
    open_clip = int(table.clip_ids[table.states == "unverified"][0])
    labels = table.labels[int(np.flatnonzero(table.clip_ids == open_clip)[0])]

    def change(key, state, by_person):
        event = LabelEvent(clip_id=open_clip, state=state, labels=labels, source="test")
        batch = Batch(key=key, kind="test", actor="x", by_person=by_person, events=[event])
        with project.store.write() as session:
            session.append(batch)

    change("machine", "self_verified", False)
    with pytest.raises(Stop):
        rehearse(project, tiny_recipe, kind="uniform", rate=RATE, say=stop_at("part 1"))
    assert list(project.work.glob("rehearsals/*")) == [first]
    change("person", "verified", True)
    assert plan(project, tiny_recipe, kind="uniform") != first
    assert len({plan(project, tiny_recipe, kind="uniform", seed=seed) for seed in (1, 2)}) == 2


@pytest.mark.slow
def test_confusable_noise_follows_the_last_run(verified_project, tiny_recipe, tmp_path):
    original, *_ = verified_project
    shutil.copytree(original.root, tmp_path / "p")
    project = open_project(tmp_path / "p")
    folder = plan(project, tiny_recipe, kind="confusable", seed=5)
    with project.store.read() as session:
        table, run_id = session.labels(), session.last_run()
        clip_ids, judges, probs = session.predictions(run_id)
    labels = multi_hot(table.labels, len(table.classes))
    verified = table.clip_ids[(table.states == "verified") & (table.subsets == "train")]
    use = (judges != run_id) & np.isin(clip_ids, verified)
    similarity = class_similarity(labels[clip_ids[use]], probs=probs[use])
    for number, (_, now, _, truth) in enumerate(scratches(folder, project)):
        hidden = np.isin(table.paths, list(truth))
        planted = plant_confusable(
            labels, similarity, rate=RATE, seed=np.random.default_rng([5, number]), eligible=hidden
        )
        assert now.paths == table.paths and planted.clips.any()
        assert np.array_equal(multi_hot(now.labels, len(now.classes)), planted.labels)


@pytest.mark.slow
def test_without_a_run_classes_are_alike_by_their_mean_spectrum(tiny_recipe, tmp_path):
    """Four classes of tones, near in pairs: most confusions stay within a pair."""
    base = {"a": 400, "b": 440, "c": 2800, "d": 2900}
    (tmp_path / "audio").mkdir()
    table = []
    for number in range(160):
        name = "abcd"[number % 4]
        write_tone(tmp_path / "audio" / f"{number:03d}.wav", base[name] + number / 8, seconds=0.3)
        table.append((f"{number:03d}.wav", name, 1))
    file = write_csv(tmp_path / "labels.csv", ("fname", "label", "verified"), table)
    project, _ = create_project(tmp_path, tmp_path / "audio")
    import_labels(project, file, "csv", FormatSpec(verified_column="verified"))
    (part, *_) = scratches(plan(project, tiny_recipe, kind="confusable"), project)
    _, now, _, truth = part
    pairs = Counter(
        truth[path][0] + now.names(i)[0]
        for i, path in enumerate(now.paths)
        if path in truth and now.names(i) != truth[path]
    )
    near = sum(n for pair, n in pairs.items() if pair in ("ab", "ba", "cd", "dc"))
    assert near > 0.6 * pairs.total() > 10


@pytest.mark.slow
def test_out_of_vocabulary_clips_have_no_right_class(demo_clips, tiny_recipe, tmp_path):
    project = grouped_project(demo_clips, tmp_path / "p")
    folder = plan(project, tiny_recipe, kind="out_of_vocabulary")
    with project.store.read() as session:
        table = session.labels()
    label = {path: table.names(i)[0] for i, path in enumerate(table.paths)}
    for _, now, _, truth in scratches(folder, project):
        given = {path: now.names(i) for i, path in enumerate(now.paths)}
        remain = {name for names in given.values() for name in names}
        gone = set(label.values()) - remain
        assert gone and all(len(names) == 1 for names in given.values())
        assert {p for p in label if p not in given} <= {p for p in label if label[p] in gone}
        drawn = {path for path in truth if truth[path] == [] and path in given}
        assert drawn == {path for path in given if label[path] in gone}
        assert len(drawn) == math.ceil(RATE * len(truth))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["missing", "extra"])
def test_clips_of_several_labels(kind, tiny_recipe, tmp_path):
    classes, pairs = pair_clips(tmp_path, 48, 1)
    table = [(name, ",".join(labels), int(n % 4 < 3)) for n, (name, labels) in enumerate(pairs)]
    file = write_csv(tmp_path / "labels.csv", ("fname", "label", "verified"), table)
    project, _ = create_project(tmp_path, tmp_path / "audio")
    import_labels(project, file, "csv", FormatSpec(verified_column="verified"))
    freeze_folds(project, n=2)
    found = rehearse(project, tiny_recipe, kind=kind, rate=RATE, repeats=1, workers=1)
    ((_, now, _, truth),) = scratches(found.folder, project)
    given = {path: set(now.names(i)) for i, path in enumerate(now.paths) if path in truth}
    n_labels = sum(map(len, truth.values()))
    differences = [given[path] ^ set(truth[path]) for path in truth]
    assert sum(map(len, differences)) == math.ceil(RATE * n_labels)
    bigger, smaller = (truth, given) if kind == "missing" else (given, truth)
    assert all(set(smaller[path]) <= set(bigger[path]) for path in truth)
    assert found.planted == sum(map(bool, differences)) and found.hidden == len(truth)
    assert kind == "missing" or found.repaired == 0
    assert found.test == {} and now.classes == sorted(classes)


@pytest.mark.slow
def test_decisions_of_people_go_along(tiny_recipe, tmp_path):
    """What came in noisy stays known as such; rejected clips stay out, open questions open."""
    clips = [("ab"[n % 2], int(n < 12), "", n % 2) for n in range(20)]
    project = tone_set(tmp_path / "p", clips)
    batch = Batch(
        key="people", kind="test", actor="x", by_person=True,
        events=[
            LabelEvent(clip_id=12, state="relabeled", labels=[1], source="test"),
            LabelEvent(clip_id=13, state="rejected", labels=[1], source="test"),
            LabelEvent(clip_id=0, state="unverified", labels=[0], source="test"),
        ],
        verdicts=[Verdict(clip_id=3, class_id=0, verdict="unsure", rule="test")],
    )  # fmt: skip
    with project.store.write() as session:
        session.append(batch)
    folder = plan(project, tiny_recipe, kind="uniform")
    hidden = set()
    for scratch, now, folds, truth in scratches(folder, project):
        hidden |= truth.keys()
        state = dict(zip(now.paths, now.states.tolist(), strict=True))
        first = dict(rows(scratch, FIRST_STATES))
        assert "013.wav" not in state
        assert first["000.wav"] == "verified" and state["000.wav"] == "unverified"
        assert first["012.wav"] == "unverified"
        assert state["012.wav"] == ("unverified" if "012.wav" in truth else "relabeled")
        assert truth.get("012.wav", ["b"]) == ["b"]
        assert {now.paths[i]: folds[i] for i in range(len(now.paths))} == {
            path: int(path[:3]) % 2 for path in state
        }
        with scratch.store.read() as session:
            assert (now.paths.index("003.wav"), 0) in session.unsure()
    # Nobody knows the truth about a clip somebody was unsure of.
    assert hidden == {f"{n:03d}.wav" for n in (1, 2, *range(4, 13))}


def test_parts_share_out_classes_and_leave_each_its_only_group(tmp_path):
    clips = [("a", 1, f"s{n}") for n in range(10)] + [("b", 1, "one")] * 5
    project = tone_set(tmp_path / "p", clips, ("label", "verified", "source"))
    source = read_source(project, print)
    for hide, n, wanted in ((0.5, 2, 5), (0.2, 5, 2), (0.3, 3, 3), (0.7, 1, 7)):
        parts = deal_parts(source, hide, n, seed=4)
        assert [int(part[:10].sum()) for part in parts] == [wanted] * n
        assert not any(part[10:].any() for part in parts)
        assert np.sum(parts, axis=0).max() == 1
    few, many = deal_parts(source, 0.2, 2, seed=4), deal_parts(source, 0.2, 5, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(few, many[:2], strict=True))
    assert not np.array_equal(few[0], deal_parts(source, 0.2, 1, seed=5)[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0}, "rate must be above 0 and below 1, got 0"),
        ({"rate": 1.5}, "rate must be above 0 and below 1, got 1.5"),
        ({"hide": 1}, "hide must be above 0 and below 1, got 1"),
        ({"hide": float("nan")}, "hide must be"),
        ({"repeats": 3}, "hide 0.5 leaves room for 1 to 2 repeats"),
        ({"repeats": 0}, "got 0"),
        ({"kind": "missing"}, "kind missing is for clips with several labels"),
        ({"kind": "extra"}, "kind extra is for clips with several labels"),
        ({"kind": "unifrom"}, "did you mean 'uniform'"),
        ({"kind": "out_of_vocabulary", "rate": 0.9}, "cannot be rehearsed on these labels: all 2"),
        ({"hide": 0.01}, "verified clips are too few to hide 0.01"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(options, words, tiny_recipe, tmp_path):
    project = tone_set(tmp_path / "p", [("ab"[n % 2], 1, "", n % 2) for n in range(8)])
    with pytest.raises((InvalidInput, UnknownName), match=words) as caught:
        rehearse(project, tiny_recipe, **{"kind": "uniform", "rate": RATE} | options)
    assert "\n" not in str(caught.value)
    assert not list(project.work.glob("rehearsals/*/*"))


def test_too_few_verified_clips(tiny_recipe, tmp_path):
    none = tone_set(tmp_path / "none", [("ab"[n % 2], 0, "", n % 2) for n in range(8)])
    with pytest.raises(InvalidInput, match="no training clip is verified"):
        rehearse(none, tiny_recipe, kind="uniform", rate=RATE)
    few = tone_set(tmp_path / "few", [("ab"[n % 2], int(n < 2), "", n % 2) for n in range(8)])
    with pytest.raises(InvalidInput, match=r"2 verified clips are too few to hide 0\.5"):
        rehearse(few, tiny_recipe, kind="uniform", rate=RATE)


@pytest.mark.slow
def test_a_class_without_a_verified_clip_is_told(tiny_recipe, tmp_path):
    clips = [("abc"[n % 3], int(n % 3 < 2), "", n % 2) for n in range(24)]
    project = tone_set(tmp_path / "p", clips)
    said = []

    def say(line):
        said.append(line)
        stop_at("part 1")(line)

    with pytest.raises(Stop):
        rehearse(project, tiny_recipe, kind="uniform", rate=RATE, say=say)
    assert "class c has no verified clip: nothing is said of it" in said
