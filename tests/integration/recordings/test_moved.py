"""A recording that was renamed keeps its clip: labels, history, folds and runs."""

import json
import shutil

import pytest

from labelkit.project import create_project
from tests.support.clips import write_csv, write_tone
from tests.support.commands import call, refused, rows


@pytest.fixture
def project(tmp_path):
    """Four recordings, of which two have the same bytes."""
    audio = tmp_path / "audio"
    (audio / "sub").mkdir(parents=True)
    for k, name in enumerate(("a.wav", "b.wav", "sub/c.wav")):
        write_tone(audio / name, 300 + 100 * k)
    shutil.copy(audio / "b.wav", audio / "twin.wav")
    project, _ = create_project(tmp_path, audio)
    lines = [("a.wav", "Dog"), ("b.wav", "Cat"), ("sub/c.wav", "Dog"), ("twin.wav", "Cat")]
    call(project, "import", write_csv(tmp_path / "l.csv", ("fname", "label"), lines),
         "--format", "csv")  # fmt: skip
    return project


def paths(project):
    return dict(rows(project, "select clip_id, path from clips order by 1"))


def moved(project, *words):
    done = call(project, "check", "--moved", "--json", *words)
    assert done.exit_code == 0, done.output
    return {row["path"]: (row["found_at"], row["what"]) for row in json.loads(done.stdout)}


MOVES = [
    # From, to.
    ("a.wav", "z.wav"), ("a.wav", "sub/a.wav"), ("sub/c.wav", "c.wav"), ("a.wav", "A.wav"),
    ("a.wav", "a.flac.wav"), ("a.wav", "new folder/ä 1.wav"), ("sub/c.wav", "other/deep/c.wav"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), MOVES)
def test_the_clip_follows(project, source, target):
    audio, before = project.audio_dir, paths(project)
    call(project, "label", source, "Cat", "--reason", "heard")
    (audio / target).parent.mkdir(parents=True, exist_ok=True)
    (audio / source).rename(audio / target)
    tried = moved(project, "--dry-run")
    assert tried == {source: (target, "moved")} and paths(project) == before
    assert "labelkit check --moved" in call(project, "check", "--fast").stderr
    assert moved(project) == tried
    assert sorted(paths(project).values()) == sorted(
        target if path == source else path for path in before.values()
    )
    assert rows(project, "select labels from labels_now where path = ?", [target]) == [(["Cat"],)]
    told = json.loads(call(project, "history", target, "--json").stdout)
    assert {(row["what"], row["state"]) for row in told} >= {
        ("event", "relabeled"),
        ("clip", "moved"),
    }
    assert moved(project) == {}
    done = call(project, "doctor", "--fast", "--json")
    assert all(row["state"] != "problem" for row in json.loads(done.stdout))
    batch = rows(project, "select max(batch_id) from batches")[0][0]
    past = call(project, "query", "--csv", "--as-of", batch - 1, "select path from clips")
    assert source in past.stdout.split("\n") and target not in past.stdout.split("\n")
    assert call(project, "undo", batch).exit_code == 0
    assert paths(project) == before


def test_several_at_once_may_change_places(project):
    audio = project.audio_dir
    ids = {path: number for number, path in paths(project).items()}
    (audio / "a.wav").rename(audio / "x")
    (audio / "sub/c.wav").rename(audio / "y.wav")
    (audio / "x").rename(audio / "x.wav")
    assert set(moved(project).values()) == {("x.wav", "moved"), ("y.wav", "moved")}
    now = paths(project)
    assert (now[ids["a.wav"]], now[ids["sub/c.wav"]]) == ("x.wav", "y.wav")


def test_what_nobody_can_tell_is_left(project):
    audio = project.audio_dir
    shutil.copy(audio / "a.wav", audio / "a1.wav")
    (audio / "a.wav").rename(audio / "a2.wav")
    (audio / "b.wav").rename(audio / "b1.wav")
    (audio / "twin.wav").unlink()
    (audio / "sub/c.wav").unlink()
    before = paths(project)
    assert moved(project) == {
        "a.wav": ("a1.wav", "several files have these bytes"),
        "b.wav": ("b1.wav", "several missing clips have these bytes"),
        "twin.wav": ("b1.wav", "several missing clips have these bytes"),
        "sub/c.wav": (None, "no file has these bytes"),
    }
    assert paths(project) == before


def test_one_that_came_in_anew_is_told(project):
    audio = project.audio_dir
    (audio / "a.wav").rename(audio / "z.wav")
    file = write_csv(project.root / "m.csv", ("fname", "label"), [("z.wav", "Dog")])
    assert call(project, "import", file, "--format", "csv").exit_code == 0
    done = call(project, "check", "--moved", "--json")
    assert json.loads(done.stdout)[0]["what"] == "came in anew as another clip"
    assert "labelkit undo 2" in done.stderr
    assert call(project, "undo", 2).exit_code == 0
    assert moved(project) == {"a.wav": ("z.wav", "moved")}


@pytest.mark.parametrize("words", [["--fast"], ["--probe", "quick"], ["--workers", "1"],
                                   ["--recipe", "quick"], ["--set", "epochs=1"]])  # fmt: skip
def test_what_has_no_effect_is_refused(project, words):
    done = call(project, "check", "--moved", *words)
    assert done.exit_code == 2 and "--moved looks for recordings alone" in done.stderr
    assert words[0] in done.stderr
    assert call(project, "check", "--dry-run").exit_code == 2


def test_without_the_folder_nothing_moves(project):
    project.audio_dir.rename(project.root / "elsewhere")
    refused(call(project, "check", "--moved"), "audio", code=1)


ROUNDS = {
    # Renames one after the other, and where the clips of a, b and c lie then.
    "two change places": (
        [("a.wav", "t"), ("b.wav", "a.wav"), ("t", "b.wav")], {"a.wav": "b.wav", "b.wav": "a.wav"},
    ),
    "three go round": (
        [("a.wav", "t"), ("b.wav", "a.wav"), ("sub/c.wav", "b.wav"), ("t", "sub/c.wav")],
        {"a.wav": "sub/c.wav", "b.wav": "a.wav", "sub/c.wav": "b.wav"},
    ),
    "a line that ends free": (
        [("a.wav", "z.wav"), ("b.wav", "a.wav"), ("sub/c.wav", "b.wav")],
        {"a.wav": "z.wav", "b.wav": "a.wav", "sub/c.wav": "b.wav"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("renames", "found"), ROUNDS.values(), ids=ROUNDS)
def test_names_that_change_among_clips(project, renames, found):
    before = {path: number for number, path in paths(project).items()}
    for source, target in renames:
        (project.audio_dir / source).rename(project.audio_dir / target)
    told = moved(project)
    assert {path: place for path, (place, what) in told.items() if what == "moved"} == found
    now = paths(project)
    assert {path: now[before[path]] for path in found} == found
    assert moved(project) == {}


def test_a_line_that_ends_at_a_recording_that_is_gone_is_told(project):
    audio = project.audio_dir
    (audio / "twin.wav").unlink()
    (audio / "a.wav").unlink()
    (audio / "b.wav").rename(audio / "a.wav")
    (audio / "sub/c.wav").rename(audio / "b.wav")
    before = paths(project)
    told = moved(project)
    assert told["a.wav"] == (None, "no file has these bytes")
    assert told["sub/c.wav"][1] == "a clip whose own recording is gone has that place"
    assert paths(project) == before


def test_a_moved_clip_is_known_by_its_former_name(project):
    audio = project.audio_dir
    (audio / "a.wav").rename(audio / "z.wav")
    moved(project)
    done = call(project, "import", project.root / "l.csv", "--format", "csv")
    assert done.exit_code == 0 and "0 clips added" in done.stderr, done.output
    assert "'a.wav' say is taken for 'z.wav'" in done.stderr
    done = call(project, "import", project.root / "l.csv", "--format", "csv", "--metadata-only")
    assert done.exit_code == 0 and "0 clips added" in done.stderr, done.output
    (project.root / "c.json").write_text(json.dumps({"a.wav": "Cat"}))
    assert (
        call(project, "import", project.root / "c.json", "--format", "corrections").exit_code == 0
    )
    assert rows(project, "select labels from labels_now where path = 'z.wav'") == [(["Cat"],)]
    refused(call(project, "history", "a.wav"), "no clip 'a.wav'", "did you mean 'z.wav'")
    told = json.loads(call(project, "history", "z.wav", "--json").stdout)
    [move] = [row for row in told if row["what"] == "clip"]
    assert json.loads(move["evidence"]) == {"path": "z.wav", "before": "a.wav"}
