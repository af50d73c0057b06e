"""Speakers and the like: kept, parted on request alone, and told where they are given as groups."""

import csv
import json

import numpy as np
import pytest

from labelkit.cleaning.score import score
from labelkit.config import FormatSpec, read_recipe
from labelkit.folds import DOMAIN_REMEDY
from labelkit.labels.importing import import_labels
from labelkit.metrics import average_precision
from labelkit.project import create_project
from labelkit.runs.domains import agreement
from labelkit.runs.train import train
from tests.support.clips import write_csv, write_tone
from tests.support.commands import call, refused, rows

COLUMNS = ["fname", "label", "who", "take"]


def make_project(root, table):
    """A project on tones, one a row: two classes, a speaker and a recording."""
    (root / "audio").mkdir(parents=True)
    for number, row in enumerate(table):
        write_tone(root / "audio" / row[0], 300 + 400 * (row[1] == "b") + number, 0.1)
    write_csv(root / "l.csv", COLUMNS, table)
    project, _ = create_project(root, root / "audio")
    return project


def bring(project, *words):
    done = call(project, "import", project.root / "l.csv", "--format", "csv", *words)
    return done


def people(n_clips=24, n_people=6):
    return [
        (f"{n}.wav", "ab"[n % 2], f"p{n // 2 % n_people}", f"t{n // 4}") for n in range(n_clips)
    ]


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "p", people())


def fold_of(project, column, fold_set):
    found = {}
    for name, fold in rows(
        project,
        f"select c.{column}, f.fold from clips c join folds f using (clip_id) where fold_set = ?",
        [fold_set],
    ):
        found.setdefault(name, set()).add(fold)
    return found


def test_domains_are_kept_and_come_back(project, tmp_path):
    done = bring(project, "--domain-column", "who", "--group-column", "take")
    assert done.exit_code == 0, done.output
    assert "odd:" not in done.stderr
    wanted = {(name, who, take) for name, _, who, take in people()}
    sql = "select path, domain_name, group_name from labels_now"
    assert set(rows(project, sql)) == wanted
    for name, format in (("x.csv", "csv"), ("x.jsonl", "jsonl"), ("x.parquet", "parquet")):
        assert call(project, "export", tmp_path / name, "--format", format).exit_code == 0
        other, _ = create_project(tmp_path / f"of_{format}", project.audio_dir)
        assert call(other, "import", tmp_path / name).exit_code == 0
        assert set(rows(other, sql)) == wanted
    assert call(project, "changes", "export", tmp_path / "c.json").exit_code == 0
    copy, _ = create_project(tmp_path / "copy", project.audio_dir)
    assert call(copy, "changes", "import", tmp_path / "c.json").exit_code == 0
    assert set(rows(copy, sql)) == wanted


def test_a_change_set_without_domains_is_one_of_before(project, tmp_path):
    bring(project)
    call(project, "changes", "export", tmp_path / "c.json")
    assert "domain" not in (tmp_path / "c.json").read_text()
    copy, _ = create_project(tmp_path / "copy", project.audio_dir)
    assert call(copy, "changes", "import", tmp_path / "c.json").exit_code == 0


def test_folds_part_domains_but_on_request(project):
    bring(project, "--domain-column", "who", "--group-column", "take")
    assert call(project, "folds", "--n", 3).exit_code == 0
    assert max(map(len, fold_of(project, "domain_name", "3-seed0").values())) > 1
    assert max(map(len, fold_of(project, "group_name", "3-seed0").values())) == 1
    done = call(project, "folds", "--n", 2, "--by", "domain")
    assert done.exit_code == 0 and "fold set 2-seed0-domain" in done.stderr
    for column in ("domain_name", "group_name"):
        assert max(map(len, fold_of(project, column, "2-seed0-domain").values())) == 1
    # Clips that come later join a set as it is.
    more = [("z.wav", "a", "p0", "t99"), ("y.wav", "b", "p1", "t98")]
    for name, label, *_ in more:
        write_tone(project.audio_dir / name, 300 + 400 * (label == "b"), 0.2)
    write_csv(project.root / "l.csv", COLUMNS, more)
    bring(project, "--domain-column", "who", "--group-column", "take")
    assert call(project, "folds").exit_code == 0
    assert max(map(len, fold_of(project, "domain_name", "2-seed0-domain").values())) == 1


def test_by_domain_needs_domains_and_enough_of_them(project):
    bring(project, "--group-column", "take")
    refused(call(project, "folds", "--by", "domain"), "no clip has a domain", "--domain-column")
    assert rows(project, "select count(*) from folds") == [(0,)]


def test_too_few_domains_are_refused(tmp_path):
    project = make_project(tmp_path / "p", people(12, 2))
    bring(project, "--domain-column", "who")
    refused(call(project, "folds", "--by", "domain"), "2 groups cannot fill 5 folds")


def test_a_domain_stays_and_one_that_comes_late_is_told(project):
    bring(project)
    again = bring(project, "--domain-column", "who")
    assert again.exit_code == 0 and "0 clips added" in again.stderr
    call(project, "undo", "1")
    assert bring(project, "--domain-column", "who").exit_code == 0
    bad = bring(project, "--domain-column", "take")
    assert bad.exit_code == 2 and "imported before with domain 'p0'; a domain stays" in bad.stderr


@pytest.mark.parametrize(
    ("table", "told"),
    [
        # 64 clips of four speakers, who all say all of it.
        ([(f"{n}.wav", "ab"[n % 2], f"p{n // 2 % 4}", "t") for n in range(64)], "4 groups of 16"),
        ([(f"{n}.wav", "ab"[n // 32], f"p{n // 2}", "t") for n in range(64)], None),
    ],
)
def test_groups_that_look_like_domains_are_told_where_they_matter(tmp_path, table, told):
    project = make_project(tmp_path / "p", table)
    done = bring(project, "--group-column", "who")
    assert done.exit_code == 0
    dealt = call(project, "folds", "--n", 2)
    assert dealt.exit_code == 0
    for said in (done.stderr, dealt.stderr):
        lines = [line for line in said.splitlines() if DOMAIN_REMEDY in line]
        assert len(lines) == bool(told) and all(told in line for line in lines), said


@pytest.mark.parametrize("words", [["folds"], ["train", "--recipe", "probe"]])
def test_all_recordings_in_one_group_are_refused_in_a_line(tmp_path, words):
    project = make_project(tmp_path / "p", [(n, label, "p", "t") for n, label, *_ in people()])
    done = bring(project, "--group-column", "who")
    assert "group 'p' has 24 of 24 clips" in done.stderr
    done = call(project, *words)
    assert done.exit_code == 2 and done.stdout == ""
    [error] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "1 group cannot fill 5 folds" in error and "--domain-column" in error


@pytest.mark.parametrize("n_classes", [2, 20])
def test_small_sets_are_dealt_and_judged(tmp_path, n_classes):
    """Twenty clips, and one clip a class, which no model can have heard."""
    table = [(f"{n}.wav", f"c{n % n_classes:02d}", f"p{n % 5}", f"t{n}") for n in range(20)]
    project = make_project(tmp_path / "p", table)
    assert bring(project, "--domain-column", "who").exit_code == 0
    done = call(project, "folds")
    assert done.exit_code == 0
    assert done.stderr.count("it is judged poorly") == (20 if n_classes == 20 else 0)
    done = call(project, "train", "--recipe", "probe")
    assert done.exit_code == 0, done.output
    assert "features: 16000 Hz" in done.stderr and "from 20 recordings of 0.1 s" in done.stderr
    assert "where none of 5 domains is heard and judged by the same model" in done.stderr
    [[metrics]] = rows(project, "select metrics from runs where part_of is null")
    found = json.loads(metrics)
    assert {"agreement_as_dealt", "agreement_across_domains"} <= set(found)


@pytest.mark.parametrize(
    ("labels", "probs", "expected"),
    [
        ([[1, 0], [0, 1]], [[0.9, 0.1], [0.8, 0.2]], 0.5),
        ([[1, 1], [0, 1]], [[0.1, 0.2], [0.1, 0.2]], 1.0),
        # A clip without labels agrees with nothing, and disagrees with nothing.
        ([[0, 0], [0, 1]], [[0.9, 0.1], [0.1, 0.2]], 1.0),
        ([[0, 0]], [[0.9, 0.1]], np.nan),
    ],
)
def test_agreement_is_plain(labels, probs, expected):
    found = agreement(np.array(labels, float), np.array(probs))
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.fixture(scope="module")
def words(shared_data):
    """Short words of 25 speakers, a tenth of them with another label: paths, labels, who, wrong."""
    with (shared_data / "arabic_commands/labels.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    rng = np.random.default_rng(17)
    classes = sorted({row["label"] for row in table})
    wrong = np.zeros(len(table), bool)
    wrong[rng.choice(len(table), len(table) // 10, replace=False)] = True
    given = [
        str(rng.choice([name for name in classes if name != row["label"]])) if bad else row["label"]
        for row, bad in zip(table, wrong, strict=True)
    ]
    return (
        shared_data / "arabic_commands",
        [(row["fname"], label, row["speaker"]) for row, label in zip(table, given, strict=True)],
        {row["fname"]: bool(bad) for row, bad in zip(table, wrong, strict=True)},
    )


def find_errors(words, root, spec):
    """Average precision of the planted errors in the list that score gives, by a probe."""
    folder, table, wrong = words
    project, _ = create_project(root, folder)
    file = write_csv(root / "l.csv", ["fname", "label", "speaker"], table)
    import_labels(project, file, "csv", spec)
    run = train(project, read_recipe("probe"), workers=1)
    clips = score(project, run_id=run["run_id"], lowest=len(table), workers=1)
    found = np.array([wrong[clip.path] for clip in clips])
    return average_precision(found, np.arange(len(found), dtype=float)), run


@pytest.mark.slow
def test_speakers_as_domain_cost_nothing_and_as_groups_are_told(words, tmp_path, capsys):
    for name in ("plain", "domain", "group"):
        (tmp_path / name).mkdir()
    plain, run = find_errors(words, tmp_path / "plain", FormatSpec())
    assert "agreement_across_domains" not in run and DOMAIN_REMEDY not in capsys.readouterr().err
    domain, run = find_errors(words, tmp_path / "domain", FormatSpec(domain_column="speaker"))
    assert DOMAIN_REMEDY not in capsys.readouterr().err
    # Strangers are harder to judge.
    assert run["agreement_across_domains"] < run["agreement_as_dealt"]
    assert domain >= plain - 0.02
    group, _ = find_errors(words, tmp_path / "group", FormatSpec(group_column="speaker"))
    look = "25 groups of 20 clips each hold many classes each, as speakers, sites or devices do"
    assert capsys.readouterr().err.count(f"{look}; {DOMAIN_REMEDY}") == 2
    assert group < domain
