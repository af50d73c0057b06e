"""Probabilities of somebody else's model: forms, faults, and what the commands make of them."""

import csv
import json
import shutil

import numpy as np
import pytest

from labelkit.cleaning.external import import_probs
from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from tests.support.clips import write_csv
from tests.support.commands import call, refused, rows, snapshot
from tests.support.labelled import (
    CLASSES,
    LOCKED,
    PATHS,
    TRUTH,
    N,
    judge,
    write_probs,
)
from tests.support.projects import copy_project


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_project(labelled, tmp_path / "p")


def stored(project, run_id):
    found = rows(
        project,
        "select c.path, p.probs from predictions p join clips c using (clip_id) "
        "where p.run_id = ? order by clip_id",
        [run_id],
    )
    assert [path for path, _ in found] == PATHS[: len(found)]
    return np.array([probs for _, probs in found], np.float32)


def test_every_form_says_the_same(project, tmp_path):
    mixed, moved = np.random.default_rng(5).permutation(N + LOCKED), [2, 0, 3, 1]
    files = [write_probs(tmp_path / name) for name in ("a.csv", "a.npz", "a.npy")]
    files.append(
        write_probs(
            tmp_path / "b.csv",
            judge()[mixed][:, moved],
            [PATHS[k] for k in mixed],
            [CLASSES[k] for k in moved],
        )
    )
    bom = tmp_path / "bom.csv"
    bom.write_bytes(b"\xef\xbb\xbf" + files[0].read_bytes().replace(b"\r\n", b"\n"))
    run_ids = [import_probs(project, file) for file in (*files, bom)]
    assert len(set(run_ids)) == 5
    for run_id in run_ids:
        np.testing.assert_array_equal(stored(project, run_id), judge())
    kinds = rows(project, "select distinct kind, recipe, classes::varchar, fold_set from runs")
    assert kinds == [("external", "external", "[Bird, Car, Dog, Rain]", None)]


def test_the_same_file_again_is_the_same_run(project, tmp_path):
    file = write_probs(tmp_path / "a.csv")
    first = call(project, "score", "--probs", file, "--method", "lwlrap", "--json")
    assert first.exit_code == 0, first.output
    before = snapshot(project)
    again = call(project, "score", "--probs", file, "--method", "lwlrap", "--json")
    assert (again.stdout, again.stderr) == (first.stdout, first.stderr)
    assert snapshot(project) == before
    copied = shutil.copy(file, tmp_path / "copy.csv")
    assert import_probs(project, copied) == import_probs(project, file)
    assert snapshot(project) == before


def spoilt(**changes):
    """Rows of the CSV with some cells replaced: ``spoilt(r3c1="nan")``."""
    rows = [["path", *CLASSES], *([p, *map(str, row)] for p, row in zip(PATHS, judge().tolist(),
                                                                        strict=True))]  # fmt: skip
    for place, value in changes.items():
        row, column = place[1:].split("c")
        rows[int(row)][int(column)] = value
    return rows


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        (spoilt(r3c0="14.wave"), ["1 of 46 paths are no clips of the project, '14.wave' is the",
                                  "did you mean '14.wav'"]),
        (spoilt(r3c0="unheard_of"), ["'unheard_of' is the first; give paths as labels_now shows"]),
        (spoilt(r0c2="Cat"), ["no class 'Cat' in the project; did you mean 'Car'"]),
        ([row[:4] for row in spoilt()], ["no column for class 'Rain'; give one column for each"]),
        ([[*row, row[1]] for row in spoilt()], ["a class is there twice"]),
        (spoilt(r3c1="nan"), ["1 numbers are no probabilities, nan of '14.wav' is the first"]),
        (spoilt(r3c1="inf"), ["inf of '14.wav' is the first"]),
        (spoilt(r3c1="1.01", r4c2="-0.5"), ["2 numbers are no probabilities, 1.01 of '14.wav'",
                                            "bring them to [0, 1]"]),
        (spoilt(r3c1="much"), ["line 4: could not convert string to float: 'much'"]),
        (spoilt(r3c1=""), ["line 4: could not convert string to float: ''"]),
        ([*spoilt(), spoilt()[3]], ["clip '14.wav' is there twice; keep one row"]),
        ([*spoilt()[:5], spoilt()[5][:3]], ["line 6 has 3 fields, the header 5"]),
        ([*spoilt()[:5], [*spoilt()[5], "1"]], ["line 6 has 6 fields, the header 5"]),
        (spoilt()[:1], ["has no rows; give one a clip"]),
        ([], ["has no rows; give one a clip"]),
    ],
)  # fmt: skip
def test_a_faulty_csv_is_one_clear_line(labelled, tmp_path, lines, messages):
    before = snapshot(labelled)
    with (tmp_path / "probs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    done = call(labelled, "score", "--probs", tmp_path / "probs.csv")
    refused(done, "probs.csv", *messages)
    assert snapshot(labelled) == before


def write_bytes(name, content):
    return lambda folder: (folder / name).write_bytes(content) and folder / name


def write_npy(probs):
    def write(folder):
        np.save(folder / "x.npy", probs)
        return folder / "x.npy"

    return write


def write_npz(**arrays):
    def write(folder):
        np.savez(folder / "x.npz", **arrays)
        return folder / "x.npz"

    return write


def half_an_npz(folder):
    file = write_probs(folder / "x.npz")
    file.write_bytes(file.read_bytes()[:-200])
    return file


def renamed(old, new):
    return lambda folder: write_probs(folder / f"x{old}").rename(folder / f"x{new}")


NAMES = {"paths": np.array(PATHS), "classes": np.array(CLASSES)}


@pytest.mark.parametrize(
    ("write", "messages"),
    [
        (write_npy(judge()[1:]), ["it has shape (45, 4), the project 46 clips and 4 classes"]),
        (write_npy(judge()[:, :3]), ["it has shape (46, 3)"]),
        (write_npy(judge()[:, 0]), ["it has shape (46,)"]),
        (write_npy(np.array([["x"] * 4] * 46)), ["cannot be read"]),
        (write_npy(judge() * np.nan), ["184 numbers are no probabilities, nan of '00.wav'"]),
        (write_npy(judge()[np.argsort(PATHS)][:, [1, 2, 3, 0]]),
         ["is the class order another? give a CSV with a header", "the column of Bird fits clips"]),
        (write_npz(**NAMES, probs=judge()[1:]), ["probs has shape (45, 4), paths and classes"]),
        (write_npz(**NAMES | {"classes": np.arange(4)}, probs=judge()), ["no class '0'"]),
        (write_npz(paths=NAMES["paths"], probs=judge()), ["classes is not a file in the archive"]),
        (write_npz(**NAMES, probs=np.array([None] * 46)), ["cannot be read"]),
        (half_an_npz, ["cannot be read"]),
        (renamed(".npy", ".npz"), ["cannot be read"]),
        (renamed(".npz", ".npy"), ["cannot be read"]),
        (renamed(".npz", ".csv"), ["cannot be read"]),
        (renamed(".csv", ".txt"), ["probabilities come as .csv, .npz, .npy"]),
        (lambda folder: folder / "nowhere.csv", ["nowhere.csv: no such file; give a CSV, npz"]),
        (lambda folder: folder, ["no such file"]),
        *((write_bytes(f"x{end}", content), ["cannot be read"])
          for end in (".npz", ".npy") for content in (b" ", b"PK\x03\x04 no zip", b"\x80\x04N.")),
        (write_bytes("x.csv", b"path,Bird\n\xff\xfe,1\n"), ["cannot be read"]),
    ],
)  # fmt: skip
def test_a_faulty_array_is_one_clear_line(labelled, tmp_path, write, messages):
    before = snapshot(labelled)
    refused(call(labelled, "select", "--rule", "lwlrap", "--probs", write(tmp_path)), *messages)
    assert snapshot(labelled) == before


def test_an_empty_npy_is_one_clear_line(labelled, tmp_path):
    (tmp_path / "x.npy").touch()
    refused(call(labelled, "missing", "--probs", tmp_path / "x.npy"), "cannot be read (No data")


def test_names_that_fit_badly_are_told_but_taken_at_their_word(project, tmp_path):
    file = write_probs(tmp_path / "a.csv", names=[*CLASSES[1:], CLASSES[0]])
    done = call(project, "score", "--probs", file, "--method", "lwlrap")
    assert done.exit_code == 0 and "are its names right?" in done.stderr
    good = call(project, "score", "--probs", write_probs(tmp_path / "b.csv"), "--method", "lwlrap")
    assert good.exit_code == 0 and "names right" not in good.stderr


def test_partial_coverage_is_told(project, tmp_path):
    file = write_probs(tmp_path / "a.csv", judge()[:30], PATHS[:30])
    done = call(project, "score", "--probs", file, "--method", "lwlrap", "--lowest", 99, "--json")
    assert f"a.csv says nothing of 10 clips, {PATHS[30]} say" in done.stderr
    assert {row["path"] for row in json.loads(done.stdout)} == set(PATHS[:30])
    # Held-out clips need no judgement.
    done = call(project, "score", "--method", "lwlrap", "--probs",
                write_probs(tmp_path / "b.csv", judge()[:N], PATHS[:N]))  # fmt: skip
    assert done.exit_code == 0 and "says nothing" not in done.stderr


def test_all_commands_judge_by_a_file(project, tmp_path):
    file = write_probs(tmp_path / "a.npz")
    unknown = f"a.npz is run {import_probs(project, file)}; whether its model saw the clips is not"
    for command in (
        ["score", "--method", "self_confidence"],
        ["classes"],
        ["missing", "--percentile", "90"],
        ["select", "--rule", "confident", "--set", "threshold=0"],
    ):
        done = call(project, *command, "--probs", file, "--json")
        assert done.exit_code == 0 and unknown in done.stderr, done.output
        assert json.loads(done.stdout)
    assert rows(project, "select count(*) from labels_now where state = 'self_verified'")[0][0] > 10


def test_locked_clips_are_kept_and_left_alone(project, tmp_path):
    file = write_probs(tmp_path / "a.csv")
    locked = "select path, labels, state from labels_now where subset = 'test' order by path"
    before = rows(project, locked)
    assert {state for *_, state in before} == {"unverified"}
    done = call(project, "score", "--probs", file, "--method", "lwlrap", "--lowest", 99, "--json")
    assert {row["path"] for row in json.loads(done.stdout)} == set(PATHS[:N])
    done = call(project, "missing", "--probs", file, "--percentile", "50", "--json", "--mask")
    assert {row["path"] for row in json.loads(done.stdout)} <= set(PATHS[:N])
    done = call(project, "select", "--rule", "clean_share", "--set", "keep=1", "--probs", file)
    assert "kept: 32" in done.stderr
    assert rows(project, locked) == before
    assert rows(project, "select count(*) from predictions") == [(N + LOCKED,)]


def test_a_file_of_locked_clips_alone(project, tmp_path):
    file = write_probs(tmp_path / "a.csv", judge()[N:], PATHS[N:])
    done = call(project, "score", "--probs", file)
    assert (
        done.exit_code == 1
        and "judged no clip that is neither held out nor rejected" in (done.stderr.splitlines()[-1])
    )


def test_a_file_and_a_run_exclude_one_another(project, tmp_path):
    file = write_probs(tmp_path / "a.csv")
    for command in ("score", "classes", "missing"):
        done = call(project, command, "--probs", file, "--run", "x")
        assert done.exit_code == 2 and "--run and --probs exclude one another" in done.stderr


@pytest.mark.parametrize(
    ("method", "code", "message"),
    [
        ("aum", 2, "score aum needs a log of the epochs, and run external-"),
        ("window_consensus", 3, "no windows of run 'external-"),
        ("probe", 2, "score probe: no clip has an embedding by pooled_mel; see: labelkit check"),
        ("fusion", 0, "score fusion: no clip has an embedding, so the run decides alone"),
    ],
)
def test_what_a_file_cannot_say(project, tmp_path, method, code, message):
    done = call(project, "score", "--probs", write_probs(tmp_path / "a.csv"), "--method", method)
    assert done.exit_code == code and "Traceback" not in done.output
    assert message in done.stderr.splitlines()[-1]


def test_a_file_and_embeddings_make_the_default_score(project, tmp_path):
    rng = np.random.default_rng(2)
    vectors = np.eye(4)[TRUTH] + 0.3 * rng.standard_normal((N + LOCKED, 4))
    np.savez(tmp_path / "v.npz", paths=np.array(PATHS), embeddings=vectors)
    setting = f"embedding.embedder=vectors:{tmp_path / 'v.npz'}"
    done = call(
        project, "score", "--probs", write_probs(tmp_path / "a.csv"), "--set", setting,
        "--lowest", 99, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = {row["path"]: (row["fusion"], row["labels"][0]) for row in json.loads(done.stdout)}
    assert set(found) == set(PATHS[:N])
    right = np.array([found[PATHS[k]][1] == CLASSES[TRUTH[k]] for k in range(N)])
    fusion = np.array([found[PATHS[k]][0] for k in range(N)])
    assert (fusion[~right][:, None] < fusion[right]).mean() > 0.85


def test_classes_that_came_later_are_held_for_absent(project, tmp_path):
    file = write_probs(tmp_path / "a.csv")
    run_id = import_probs(project, file)
    source = write_csv(project.root / "new.csv", ("fname", "label"), [("new.wav", "Wind")])
    import_labels(project, source, "csv", FormatSpec(), metadata_only=True, add_classes=True)
    done = call(project, "score", "--run", run_id, "--method", "lwlrap", "--lowest", 99, "--json")
    assert done.exit_code == 0, done.output
    assert {row["path"] for row in json.loads(done.stdout)} == set(PATHS[:N])
    refused(call(project, "score", "--probs", write_probs(tmp_path / "b.csv", judge(2))),
            "no column for class 'Wind'")  # fmt: skip


def test_a_file_is_the_last_run_until_another_one_is(project, tmp_path):
    first = import_probs(project, write_probs(tmp_path / "a.csv"))
    assert f"run {first}" in call(project, "status").stdout
    for words in (["score", "--method", "lwlrap"], ["classes"],
                  ["select", "--rule", "lwlrap", "--dry-run"]):  # fmt: skip
        assert call(project, "folds", "--n", 2).exit_code == 0
        by_last, by_name = call(project, *words), call(project, *words, "--run", first)
        assert by_last.exit_code == 0, by_last.output
        assert by_last.stdout == by_name.stdout
    second = import_probs(project, write_probs(tmp_path / "b.csv", judge(2)))
    assert call(project, "classes").stdout == call(project, "classes", "--run", second).stdout
    # It is no model that a training could start from.
    done = call(project, "train", "--start", first)
    assert done.exit_code == 1 and "Traceback" not in done.stderr


def test_looking_at_a_selection_deals_no_folds(project, tmp_path):
    write_csv(tmp_path / "new.csv", ["fname", "label"], [["new.wav", "Dog"]])
    import_labels(project, tmp_path / "new.csv", "csv", FormatSpec(), metadata_only=True)
    probs = np.vstack([judge(), judge()[:1]])
    file = write_probs(tmp_path / "a.csv", probs, [*PATHS, "new.wav"], CLASSES)
    run_id = import_probs(project, file)
    look = ["select", "--rule", "lwlrap", "--run", run_id, "--dry-run"]
    before = snapshot(project)
    done = call(project, *look)
    refused(done, "some clips have no fold yet; deal them with: labelkit folds", code=1)
    assert snapshot(project) == before
    assert call(project, "folds", "--n", 2).exit_code == 0
    before = snapshot(project)
    assert call(project, *look).exit_code == 0
    assert snapshot(project) == before


def as_text(delimiter=",", header=lambda names: names, row=lambda k, cells: cells, *, bom=False):
    """A file of probabilities as some program writes it."""
    lines = [header(["path", *CLASSES])]
    lines += [row(k, [p, *map(str, probs)]) for k, (p, probs) in
              enumerate(zip(PATHS, judge().tolist(), strict=True))]  # fmt: skip
    return ("\ufeff" if bom else "") + "\n".join(delimiter.join(line) for line in lines) + "\n"


def quoted(cells):
    return [f'"{cell}"' for cell in cells]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (as_text(bom=True), ""),
        (as_text("\t"), ""),
        (as_text(";"), ""),
        (as_text(", "), ""),
        # Excel, where a comma parts the decimals.
        (as_text(";", row=lambda k, c: [c[0], *(x.replace(".", ",") for x in c[1:])]), ""),
        (as_text(header=lambda names: [f" {name} " for name in names]), ""),
        (as_text(header=lambda n: ["", *n], row=lambda k, c: [str(k), *c]), "'' hold no"),
        (as_text(header=lambda n: ["Unnamed: 0", *n], row=lambda k, c: [str(k), *c]), "Unnamed"),
        # R's write.csv and write.table.
        (as_text(header=lambda n: ['""', *quoted(n)], row=lambda k, c: [f'"{k + 1}"', *c]), "''"),
        (as_text("\t", header=quoted, row=lambda k, c: [f'"{k + 1}"', f'"{c[0]}"', *c[1:]]), "''"),
        (as_text(header=lambda n: ["id", *n], row=lambda k, c: [f"x{k}", *c]), "'id' hold no"),
        (as_text(header=lambda n: [*n, "clip_id"], row=lambda k, c: [*c, str(k)]), "'clip_id'"),
        # The paths as the index of pandas.
        (as_text(header=lambda n: ["", *n[1:]]), ""),
        (as_text(header=lambda n: ["index", *n[1:]]), ""),
        (as_text(row=lambda k, c: ["./" + c[0], *c[1:]]), "46 paths are read as clips"),
        (as_text(row=lambda k, c: [".\\" + c[0], *c[1:]]), "46 paths are read as clips"),
        (as_text(row=lambda k, c: ["sub/../" + c[0], *c[1:]]), "46 paths are read as clips"),
        (as_text(row=lambda k, c: ["{audio}/" + c[0], *c[1:]]), "46 paths are read as clips"),
        (as_text() + "\n\n", ""),
    ],
)  # fmt: skip
def test_tables_as_programs_write_them(project, tmp_path, capsys, text, says):
    (tmp_path / "a.csv").write_text(text.replace("{audio}", str(project.audio_dir)))
    run_id = import_probs(project, tmp_path / "a.csv")
    np.testing.assert_allclose(stored(project, run_id), judge(), rtol=1e-6)
    told = capsys.readouterr().err
    assert says in told and (says or told == "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({3: 0.001}, "1 of 46 rows do not sum to 1, 0.001 of '14.wav' say"),
        ({2: 1.9, 3: 1.2}, "2 of 46 rows do not sum to 1, 1.9 of '14.wav' say"),
        (dict.fromkeys(range(N + LOCKED), 1.3), "46 of 46 rows"),
        (dict.fromkeys(range(N + LOCKED), 1.02), None),
        ({}, None),
    ],
)
def test_rows_that_do_not_sum_to_one_are_told(project, tmp_path, capsys, change, says):
    probs = judge()
    for k, total in change.items():
        probs[k] = total / 4
    if says and "'14.wav'" in says:
        says = says.replace("14.wav", PATHS[min(change)])
    import_probs(project, write_probs(tmp_path / "a.csv", probs))
    told = capsys.readouterr().err
    if says is None:
        assert "sum to 1" not in told
    else:
        assert says in told
        assert ("sigmoid" in told) is (len(change) > N // 2)
