"""Exports of Label Studio that labelkit did not make: whose answer it is, and on which clip."""

import json

import pytest

from labelkit.config import FormatSpec
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.label_studio.exports import read_foreign
from labelkit.labels.undo import undo
from labelkit.review.foreign import import_file
from labelkit.review.pull import pull_file
from labelkit.review.status import list_disagreements, status
from tests.support.commands import call, refused, rows

ANNA, BEN = {"id": 4, "email": "anna@example.org"}, {"id": 5, "email": "ben@example.org"}


def answer(number, *names, by=ANNA, control="sound", **more):
    """An annotation as Label Studio exports it, of somebody who took two seconds."""
    item = {
        "id": "x", "from_name": control, "to_name": "audio", "type": "choices", "origin": "manual",
        "value": {"choices": list(names)},
    }  # fmt: skip
    return {
        "id": number, "completed_by": by, "was_cancelled": False, "lead_time": 2.0,
        "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
        "parent_prediction": None, "parent_annotation": None, "result": [item] if names else [],
    } | more  # fmt: skip


def task(number, audio, *annotations, **more):
    return {
        "id": number, "project": 7, "data": {"audio": audio}, "annotations": list(annotations),
        "file_upload": None,
    } | more  # fmt: skip


def write(project, *tasks):
    file = project.root / "export.json"
    file.write_text(json.dumps(tasks))
    return file


def stands(project):
    found = rows(project, "select path, list_sort(labels), state from labels_now")
    return {path: (labels, state) for path, labels, state in found}


def bring(project, *tasks, spec=None, **options):
    return import_file(
        project, write(project, *tasks), "labelstudio", spec or FormatSpec(), **options
    )


@pytest.fixture
def known(tone_project):
    """Two of the six recordings are in the store, with the class Low."""
    source = tone_project.root / "l.csv"
    source.write_text("fname,label\n0.wav,Low\n1.wav,High\n")
    import_file(tone_project, source, "csv", FormatSpec())
    return tone_project


@pytest.mark.parametrize(
    "audio",
    [
        "0.wav", "/data/upload/7/0a1b2c3d-0.wav", "/data/local-files/?d=clips/0.wav",
        "/data/local-files/?d=0.wav", "http://host:8080/x/0.wav?token=1", "s3://bucket/a/0.wav",
        "https://host/a%20b/0.wav", "/0.wav", "clips\\0.wav", "gs://b/deadbeef-0.wav",
    ],
)  # fmt: skip
def test_a_recording_is_found_however_the_export_names_it(known, audio):
    report = bring(known, task(1, audio, answer(11, "High")))
    assert (report.read, report.added, report.changed) == (1, 0, 1)
    assert stands(known)["0.wav"] == (["High"], "relabeled")
    assert stands(known)["1.wav"] == (["High"], "unverified")


def test_answers_are_those_of_whoever_gave_them(known):
    tasks = [
        task(1, "0.wav", answer(11, "High"), answer(12, "High", by=BEN)),
        task(2, "1.wav", answer(13, "High", by=BEN)),
    ]
    report = bring(known, *tasks)
    assert report.states == {"relabeled": 1, "verified": 1} and report.counts == {"High": 3}
    assert rows(known, "select distinct actor, by_person from batches where kind <> 'import' "
                       "order by 1") == [(ANNA["email"], True), (BEN["email"], True)]  # fmt: skip
    found = rows(known, "select annotator, answer, labels from reviews_now order by annotation_id")
    assert found == [
        ("anna@example.org", "labels", ["High"]), ("ben@example.org", "labels", ["High"]),
        ("ben@example.org", "labels", ["High"]),
    ]  # fmt: skip
    # Twice is once.
    before = rows(known, "from batches")
    assert bring(known, *tasks).changed == 0
    assert rows(known, "from batches") == before


def test_where_people_differ_nothing_is_decided_for_them(known):
    bring(known, task(1, "0.wav", answer(11, "High"), answer(12, "Low", by=BEN)))
    assert stands(known)["0.wav"] == (["Low"], "unverified")
    assert len(rows(known, "from disagreements")) >= 1


def test_new_recordings_come_in_and_the_rest_is_told(known, capsys):
    report = bring(
        known, task(1, "3.wav", answer(11, "Low")), task(2, "nowhere.wav", answer(12, "Low")),
        task(3, "5.wav"), {**task(4, "x"), "data": {"text": "no sound"}},
    )  # fmt: skip
    assert (report.read, report.added, report.changed) == (2, 2, 1)
    assert stands(known)["3.wav"] == (["Low"], "relabeled")
    assert stands(known)["5.wav"] == ([], "unverified")
    said = capsys.readouterr().err
    assert "1 tasks are left out, as their recordings are neither" in said
    assert "'nowhere.wav' say" in said and "1 tasks name no recording" in said and "task 4" in said


@pytest.mark.parametrize("audio", ["/data/upload/7/0a1b2c3d-0", "0.mp3", "0.WAV", "x/0"])
def test_match_goes_further(known, audio):
    tasks = task(1, audio, answer(11, "High"))
    spec = FormatSpec(match="nocase", path_column="audio")
    assert bring(known, tasks, spec=spec).changed == 1
    with pytest.raises(InvalidInput, match="no task is of a recording"):
        bring(known, tasks, spec=FormatSpec(match="exact", path_column="audio"))


NOBODY = {
    "of a prediction": {"lead_time": None, "parent_prediction": 3},
    "propagated": {"lead_time": None, "parent_annotation": 3},
    "imported": {"lead_time": None},
}


@pytest.mark.parametrize("more", NOBODY.values(), ids=NOBODY)
def test_what_nobody_made_does_not_count_and_is_told(known, more, capsys):
    made = answer(11, "Bird", **more)
    del made["result"][0]["origin"]
    report = bring(known, task(1, "0.wav", made), task(2, "1.wav", answer(12, "Low")))
    assert stands(known)["0.wav"] == (["Low"], "unverified") and "Bird" not in report.classes
    assert "1 annotations were made of predictions or of others" in capsys.readouterr().err


def test_what_ticks_nothing_or_some_seconds_is_told(known, capsys):
    marked = answer(12, "High")
    marked["result"].append({"from_name": "l", "type": "labels", "value": {"start": 0, "end": 1}})
    skipped = answer(13, "High", was_cancelled=True)
    bring(known, task(1, "0.wav", answer(11)), task(2, "1.wav", marked), task(3, "2.wav", skipped))
    said = capsys.readouterr().err
    assert "1 annotations tick no choice" in said and "1 marks of some seconds" in said
    assert stands(known)["0.wav"] == (["Low"], "unverified")
    assert stands(known)["2.wav"] == ([], "unverified")


def test_new_classes_need_a_word(known):
    tasks = task(1, "0.wav", answer(11, "Lov"))
    before = rows(known, "from batches")
    with pytest.raises(
        FaultyFile, match=r"unknown class 'Lov'; did you mean 'Low', or import with"
    ):
        bring(known, tasks)
    assert rows(known, "from batches") == before
    report = bring(known, tasks, add_classes=True)
    assert report.classes == ["High", "Low", "Lov"]
    assert stands(known)["0.wav"] == (["Lov"], "relabeled")


def test_an_empty_project_gets_its_classes(tone_project):
    report = bring(tone_project, task(1, "0.wav", answer(11, "Bird", "Car, loud")))
    assert report.labels == "several"
    assert report.classes == ["Bird", "Car, loud"]
    assert stands(tone_project) == {"0.wav": (["Bird", "Car, loud"], "relabeled")}


def test_two_people_of_one_label_each_make_no_clip_of_several(tone_project):
    tasks = task(1, "0.wav", answer(11, "Bird"), answer(12, "Car", by=BEN))
    assert bring(tone_project, tasks).labels == "one"
    # Two at once break that, and wait in quarantine.
    bring(tone_project, task(2, "1.wav", answer(13, "Bird", "Car")))
    assert stands(tone_project)["1.wav"] == ([], "unverified")
    assert len(rows(tone_project, "from quarantine")) == 1


def test_a_dry_run_changes_nothing(known):
    file = write(known, task(1, "0.wav", answer(11, "Bird")), task(2, "3.wav", answer(12, "Low")))
    before = rows(known, "from batches"), stands(known)
    options = ("--format", "labelstudio", "--add-classes")
    tried = call(known, "import", file, *options, "--dry-run")
    assert (rows(known, "from batches"), stands(known)) == before
    done = call(known, "import", file, *options)
    assert tried.exit_code == done.exit_code == 0
    assert "2 rows (2 relabeled): 1 clips would be added, 2 changed; 3 classes" in tried.stderr
    [line] = [line for line in tried.stderr.splitlines() if "rows (" in line]
    assert line.replace("would be added", "added") in done.stderr.splitlines()


def test_the_format_is_found_out_and_pull_names_it(known):
    file = write(known, task(1, "0.wav", answer(11, "High")))
    with pytest.raises(InvalidInput, match=r"are not labelkit's.*--format labelstudio"):
        pull_file(known, file)
    assert call(known, "import", file).exit_code == 0
    assert stands(known)["0.wav"] == (["High"], "relabeled")
    own = {**task(1, "0.wav"), "data": {"clip_id": 0, "path": "0.wav"}}
    file = write(known, own, task(2, "1.wav", answer(12, "Low")))
    assert "1 tasks are labelkit's own" in call(known, "import", file).stderr


def test_which_choices_are_classes_is_asked_where_there_are_several(known):
    both = answer(11, "High")
    both["result"].append(
        {**both["result"][0], "from_name": "quality", "value": {"choices": ["good"]}}
    )
    with pytest.raises(InvalidInput, match="several choices are in the answers, quality, sound"):
        bring(known, task(1, "0.wav", both))
    assert bring(known, task(1, "0.wav", both), spec=FormatSpec(label_column="sound")).changed == 1
    with pytest.raises(InvalidInput, match="no choices called 'x' in the answers; there are: "):
        bring(known, task(1, "0.wav", both), spec=FormatSpec(label_column="x"))


@pytest.mark.parametrize(
    "options",
    [["--separator", ";"], ["--state", "verified"], ["--fold-column", "x"], ["--by", "machine"],
     ["--actor", "me"], ["--group-column", "g"], ["--hash-column", "h"]],
)  # fmt: skip
def test_options_without_effect_are_refused(known, options):
    file = write(known, task(1, "0.wav", answer(11, "High")))
    refused(call(known, "import", file, "--format", "labelstudio", *options), options[0])


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '[{"id": 1}]', '[{"audio": "a", "choice": "b"}]']
)
def test_what_is_no_export_is_refused(known, text):
    file = known.root / "export.json"
    file.write_text(text)
    refused(call(known, "import", file, "--format", "labelstudio"), "export the project as JSON")


def test_other_keys_and_file_names():
    def names(data, **more):
        found = read_foreign([{**task(1, ""), "data": data, **more}])
        return found.tasks[0].names if found.tasks else None

    assert names({"id": "x", "wav": "a/b.flac"}) == ("a/b.flac",)
    assert names({"url": ""}, file_upload="0a1b2c3d-b.wav") == ("b.wav", "0a1b2c3d-b.wav")
    assert names({"text": "Hello. World"}) is None and names({"n": 3}) is None


LINKS = {
    "a file": {"far.wav": "{away}/far.wav"},
    "of one with a word": {"far.wav": "../away/far.wav"},
    "a chain": {"far.wav": "near.wav", "near.wav": "{away}/far.wav"},
    "a folder": {"deep": "{away}"},
}


@pytest.mark.parametrize("links", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("dry_run", [False, True])
def test_tasks_on_links_that_lead_out_are_left_out_and_told(known, links, dry_run, capsys):
    away = known.audio_dir.parent / "away"
    away.mkdir()
    (away / "far.wav").write_bytes((known.audio_dir / "4.wav").read_bytes() + b"x")
    for name, target in links.items():
        (known.audio_dir / name).symlink_to(target.format(away=away))
    tasks = [
        task(1, "far.wav", answer(11, "High")), task(2, "far.wav", answer(12, "High", by=BEN)),
        task(3, "0.wav", answer(13, "High")),
    ]  # fmt: skip
    report = bring(known, *tasks, dry_run=dry_run)
    assert (report.read, report.added, report.changed) == (1, 0, 1)
    said = capsys.readouterr().err
    if "deep" in links:
        assert "2 tasks are left out, as their recordings are neither" in said
    else:
        assert "2 tasks are left out, as links take their recordings out" in said
    assert "'far.wav' say" in said
    assert len(stands(known)) == 2
    report = bring(known, *tasks, spec=FormatSpec(follow_links=True), dry_run=dry_run)
    assert report.added == 1 and "links take" not in capsys.readouterr().err


def test_an_export_of_links_alone_ends_with_a_line(known):
    (known.root / "far.wav").write_bytes((known.audio_dir / "4.wav").read_bytes() + b"x")
    (known.audio_dir / "far.wav").symlink_to(known.root / "far.wav")
    file = write(known, task(1, "far.wav", answer(11, "High")))
    done = call(known, "import", file, "--format", "labelstudio")
    assert done.exit_code == 2 and "1 tasks are left out, as links take" in done.stderr
    assert "no task is of a recording that is here" in done.stderr


@pytest.mark.parametrize(
    ("audio", "told"),
    [
        ("0.wav", False), ("/data/upload/7/0a1b2c3d-0.wav", False), ("clips/0.wav", False),
        ("fold2/here.wav", False), ("s3://b/x/fold2/here.wav", False),
        ("fold1/here.wav", True), ("here.wav", True), ("x/fold2/y/here.wav", True),
    ],
)  # fmt: skip
def test_a_recording_of_another_folder_is_told(known, capsys, audio, told):
    (known.audio_dir / "fold2").mkdir()
    (known.audio_dir / "5.wav").rename(known.audio_dir / "fold2" / "here.wav")
    report = bring(known, task(1, audio, answer(11, "High")))
    assert report.read == 1
    said = capsys.readouterr().err
    assert ("1 paths are not quite those of the recordings" in said) == told
    assert not told or "say is taken for 'fold2/here.wav'" in said


# Two servers: the same numbers everywhere, and something that tells them apart, or nothing.


def of_server(who, names, *, unique=None, email=None, created=None, updated=None, first=11):
    """Answers of user 1 of one server, on the tasks 1 and 2 of its project 7."""
    times = {"created_at": created} if created else {}
    if updated:
        times["updated_at"] = updated
    by = {"id": 1, "email": email} if email else 1
    return [
        task(
            k + 1, f"{k}.wav",
            answer(first + k, name, by=by, **times)
            | ({"unique_id": f"{unique}-{k}"} if unique else {}),
        )
        for k, name in enumerate(names)
    ]  # fmt: skip


LATER = "2026-02-02T03:04:05Z"
TOLD_APART = {
    "by unique ids": ({"unique": "a"}, {"unique": "b"}),
    "by unique ids, later": ({"unique": "a"}, {"unique": "b", "updated": LATER}),
    "by addresses": ({"email": "a@x.org"}, {"email": "b@x.org"}),
    "by addresses, later": ({"email": "a@x.org"}, {"email": "b@x.org", "updated": LATER}),
    "by when they were made": ({}, {"created": LATER, "updated": LATER}),
    "by two answers of one time": ({}, {}),
    "by addresses, of other annotations": (
        {"email": "a@x.org"}, {"email": "b@x.org", "first": 91},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("first", "then"), TOLD_APART.values(), ids=TOLD_APART)
def test_two_servers_are_told_apart(known, first, then, capsys):
    alice, bob = of_server("a", ["High", "High"], **first), of_server("b", ["Low", "Low"], **then)
    bring(known, *alice)
    stood = stands(known)
    report = bring(known, *bob)
    found = rows(known, "select project, labels from reviews_now order by review_id")
    assert [labels for _, labels in found] == [["High"]] * 2 + [["Low"]] * 2
    assert len({name for name, _ in found}) == 2 and found[0][0] == "labelstudio-7"
    assert len({name for [name] in rows(known, "select distinct annotator from reviews_now")}) == 2
    # People differ, and nothing more is decided.
    assert stands(known) == stood and report.changed == 0
    assert "on 2 clips people differ" in capsys.readouterr().err
    assert len(list_disagreements(known)) == 2
    before = rows(known, "from batches")
    for again in (alice, bob):
        assert bring(known, *again).changed == 0
        assert "2 annotations are known as of labelstudio-7" in capsys.readouterr().err
    assert rows(known, "from batches") == before


NEWER = {
    "by unique ids": {"unique": "a"},
    "by addresses": {"email": "a@x.org"},
    "by when they were made": {},
}


@pytest.mark.parametrize("what", NEWER.values(), ids=NEWER)
def test_a_newer_export_of_one_project_updates(known, what):
    bring(known, *of_server("a", ["High", "High"], **what))
    bring(known, *of_server("a", ["Low", "High"], **what, updated=LATER))
    assert rows(known, "select distinct project from reviews_now") == [("labelstudio-7",)]
    assert stands(known)["0.wav"] == (["Low"], "verified")


def test_more_answers_of_the_same_people_are_of_the_same_project(known, capsys):
    bring(known, *of_server("a", ["High"], email="a@x.org"))
    bring(known, task(2, "1.wav", answer(50, "Low", by={"id": 1, "email": "a@x.org"})))
    assert rows(known, "select distinct project from reviews_now") == [("labelstudio-7",)]
    assert "is taken for the one" not in capsys.readouterr().err


def test_where_nobody_can_tell_it_is_said_and_source_tells(known, capsys):
    bring(known, *of_server("a", ["High"]))
    other = task(2, "1.wav", answer(50, "Low", by=1))
    bring(known, other)
    assert "if it is of another server, import it with --source NAME" in capsys.readouterr().err
    undo(known, rows(known, "select max(batch_id) from batches")[0][0])
    same = write(known, *of_server("b", ["High"]))
    done = call(known, "import", same, "--source", "Bob")
    assert done.exit_code == 0
    found = rows(known, "select project, annotator from reviews_now order by 1")
    assert found == [
        ("labelstudio-7", "annotator 1"), ("labelstudio-7-Bob", "annotator 1 of Bob"),
    ]  # fmt: skip
    before = rows(known, "from batches")
    assert call(known, "import", same, "--source", "Bob").exit_code == 0
    assert rows(known, "from batches") == before


@pytest.mark.parametrize("name", ["", "a/b", "x" * 61, "a\nb"])
def test_a_source_is_a_name(known, name):
    file = write(known, *of_server("a", ["High"]))
    done = call(known, "import", file, "--format", "labelstudio", "--source", name)
    refused(done, "is no name")


def test_a_source_is_refused_where_it_is_another_ones_or_none(known):
    file = write(known, *of_server("a", ["High"], unique="a"))
    assert call(known, "import", file).exit_code == 0
    done = call(known, "import", file, "--format", "labelstudio", "--source", "Bob")
    refused(done, "known as of labelstudio-7 already")
    table = known.root / "l.csv"
    refused(call(known, "import", table, "--source", "Bob"), "leave it out")


@pytest.mark.parametrize("more", [{}, {"unique": "a"}, {"email": "a@x.org"}])
def test_what_was_undone_comes_in_again(known, more, capsys):
    tasks = of_server("a", ["High", "Low"], **more)
    bring(known, *tasks)
    came = stands(known)
    [number] = rows(known, "select max(batch_id) from batches")[0]
    undo(known, number)
    said = capsys.readouterr().err
    assert "pull --full" not in said and f"labelkit undo {number + 1}" in said
    assert stands(known)["0.wav"] == (["Low"], "unverified")
    assert bring(known, *tasks).changed == 2
    assert stands(known) == came
    assert len(rows(known, "from reviews_now")) == 2
    # The other way back leaves one answer each, too.
    undo(known, number + 1)
    assert stands(known) == came and len(rows(known, "from reviews_now")) == 2


def test_nobody_confirms_herself(known):
    bring(known, task(1, "0.wav", answer(11, "High")))
    bring(known, task(5, "0.wav", answer(15, "High", lead_time=3.0), project=8))
    assert stands(known)["0.wav"] == (["High"], "relabeled")
    bring(known, task(9, "0.wav", answer(19, "High", by=BEN, lead_time=4.0), project=9))
    assert stands(known)["0.wav"] == (["High"], "verified")


@pytest.mark.parametrize(
    ("origin", "more", "counts"),
    [
        # The page says where a mark came from: who submitted it has seen the clip.
        ("prediction", {"lead_time": None, "parent_prediction": 3}, True),
        ("prediction", {"lead_time": 2.5, "parent_prediction": 3}, True),
        ("manual", {"lead_time": None, "parent_prediction": 3}, True),
        ("prediction-changed", {"lead_time": None, "parent_prediction": 3}, True),
        (None, {"lead_time": None, "parent_prediction": 3}, False),
    ],
)
def test_a_prediction_by_itself_is_nobodys(known, origin, more, counts):
    made = answer(11, "High", **more)
    made["result"][0]["origin"] = origin
    bring(known, task(1, "0.wav", made), task(2, "1.wav", answer(12, "Low")))
    assert (stands(known)["0.wav"][1] == "relabeled") is counts


def test_the_table_of_classes_counts_what_stands(known):
    report = bring(
        known, task(1, "0.wav", answer(11, "High")), task(2, "1.wav", answer(12, "Low", "High")),
        task(3, "2.wav", answer(13, "Low", was_cancelled=True)),
    )  # fmt: skip
    assert report.counts == {"High": 1}
    assert any("1 answers cannot be read" in line for line in report.left_out)


def test_a_class_of_a_skip_is_none(known):
    report = bring(
        known, task(1, "0.wav", answer(11, "High"), answer(12, "Bird", was_cancelled=True))
    )
    assert report.classes == ["High", "Low"]


def test_uploads_of_one_name_with_different_answers_decide_nothing(known, capsys):
    tasks = [
        task(1, "/data/upload/7/11111111-0.wav", answer(11, "High")),
        task(2, "/data/upload/7/22222222-0.wav", answer(12, "Low")),
        task(3, "1.wav", answer(13, "Low")),
    ]
    bring(known, *tasks)
    assert stands(known)["0.wav"] == (["Low"], "unverified")
    assert "11111111-0.wav and 22222222-0.wav are both taken for '0.wav'" in capsys.readouterr().err
    assert len(rows(known, "from quarantine")) == 2
    before = rows(known, "from batches")
    bring(known, *tasks)
    assert rows(known, "from batches") == before
    # Without the wrong one the other is an answer.
    bring(known, tasks[0])
    assert stands(known)["0.wav"] == (["High"], "relabeled")


def test_uploads_of_one_name_that_say_the_same_count(known):
    bring(
        known, task(1, "/data/upload/7/11111111-0.wav", answer(11, "High")),
        task(2, "/data/upload/7/22222222-0.wav", answer(12, "High")),
    )  # fmt: skip
    assert stands(known)["0.wav"] == (["High"], "relabeled")


def taxonomy(number):
    made = answer(number, "High")
    made["result"][0] |= {"type": "taxonomy", "value": {"taxonomy": [["Animal", "Dog"]]}}
    return made


NOTHING = {
    "taxonomies": ([taxonomy(11)], {}, "1 of taxonomy"),
    "drafts": ([], {"drafts": [{"id": 1, "result": []}]}, "1 drafts were never submitted"),
    "unticked": ([answer(11)], {}, "1 annotations tick no choice"),
    "nobody's": ([answer(11, "High", lead_time=None, parent_prediction=3)
                  | {"result": [{"from_name": "sound", "type": "choices",
                                 "value": {"choices": ["High"]}}]}], {}, "nobody listened"),
}  # fmt: skip


@pytest.mark.parametrize(("annotations", "more", "told"), NOTHING.values(), ids=NOTHING)
def test_an_export_of_which_nothing_comes_in_is_no_success(known, annotations, more, told):
    before = rows(known, "from batches")
    alone = task(1, "0.wav", *annotations, **more)
    for option in ((), ("--dry-run",)):
        done = call(known, "import", write(known, alone), "--format", "labelstudio", *option)
        assert (
            done.exit_code == 1 and told in done.stderr and "nothing of it came in" in done.stderr
        )
    assert rows(known, "from batches") == before
    done = call(
        known, "import", write(known, alone, task(2, "1.wav", answer(20, "Low"))), "--format",
        "labelstudio",
    )  # fmt: skip
    assert done.exit_code == 0 and told in done.stderr


def test_status_counts_what_came_of_exports(known):
    bring(known, *of_server("a", ["High", "High"], unique="a"))
    bring(known, *of_server("b", ["Low", "High"], unique="b", email="b@x.org"),
          task(3, "2.wav", answer(13, "Low", was_cancelled=True)))  # fmt: skip
    found = status(known)
    assert (found.reviewed, found.labels, found.skipped, found.disagreements) == (2, 4, 1, 1)
