"""Links in the audio folder: those inside are followed, those that lead out only on request."""

import json
import os
import socket

import pytest

from labelkit.config import FormatSpec
from labelkit.datasets.formats import read_folder
from labelkit.labels.importing import import_labels
from labelkit.paths import leads_out
from labelkit.project import create_project
from tests.support.clips import write_csv, write_tone
from tests.support.commands import call, rows


@pytest.fixture
def project(tmp_path):
    """Two classes of one clip, a folder elsewhere with two, and links of every kind."""
    audio, away = tmp_path / "p" / "audio", tmp_path / "away"
    for k, file in enumerate(
        (audio / "Dog" / "a.wav", audio / "Rain" / "b.wav", away / "c.wav", away / "deep" / "d.wav")
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tone(file, 300 + 50 * k, seconds=0.1)
    return create_project(tmp_path / "p", audio)[0]


def imported(project, *options):
    done = call(project, "import", project.audio_dir, "--format", "folder", *options)
    assert done.exit_code == 0, done.output
    return dict(rows(project, "select path, labels[1] from labels_now")), done.stderr


def paths_of(root):
    return sorted(clip.path for clip in read_folder(root, FormatSpec()).clips)


@pytest.mark.parametrize("kind", ["file", "folder", "chain", "absolute", "up and down"])
def test_links_that_lead_out_are_left_out_and_told(project, tmp_path, kind):
    dog = project.audio_dir / "Dog"
    links = {
        "file": (dog / "x.wav", "../../../away/c.wav"),
        "folder": (dog / "x", "../../../away"),
        "chain": (dog / "x.wav", "y.wav"),
        "absolute": (dog / "x.wav", str(tmp_path / "away" / "c.wav")),
        "up and down": (project.audio_dir / "Cat", "../../away"),
    }
    link, target = links[kind]
    if kind == "chain":
        (dog / "y.wav").symlink_to("../../../away/c.wav")
    link.symlink_to(target)
    found, told = imported(project)
    assert found == {"Dog/a.wav": "Dog", "Rain/b.wav": "Rain"}
    number = 2 if kind == "chain" else 1
    assert f"{number} links lead out of the audio folder" in told and "--follow-links" in told
    found, told = imported(project, "--follow-links", "--add-classes")
    assert len(found) > 2 and "lead out" not in told
    for path in found:
        assert (project.audio_dir / path).is_file()


NOWHERE = {
    "a recording of git-annex": (["Dog/x.wav"], "../.git/annex/objects/x.wav", "1 links"),
    "two, one without an extension": (["Dog/x.wav", "Rain/y"], "../gone", "2 links"),
    "a class": (["Cat"], "gone", "1 links"),
    "a class and a recording": (["Cat", "Dog/x.wav"], "../../away/gone", "2 links"),
    "out of the folder, absolute": (["Dog/x.wav"], "/nowhere/x.wav", "1 links"),
    "to itself": (["Dog/x.wav"], "x.wav", "1 links"),
    "a class whose all links do": (["Cat/x.wav", "Cat/y.wav"], "../.git/z.wav", "2 links"),
    "a lock of an editor": (["Dog/.#x.wav"], "me@here", ""),
}


@pytest.mark.parametrize("options", [(), ("--follow-links",)])
@pytest.mark.parametrize(("paths", "target", "count"), NOWHERE.values(), ids=NOWHERE)
def test_links_that_lead_nowhere_are_counted(project, paths, target, count, options):
    for path in paths:
        (project.audio_dir / path).parent.mkdir(exist_ok=True)
        (project.audio_dir / path).symlink_to(target)
    found, told = imported(project, *options)
    assert found == {"Dog/a.wav": "Dog", "Rain/b.wav": "Rain"}
    said = f"{count} lead nowhere, '{paths[0]}' say, and are left out; fetch the files (git annex"
    assert (said in told) == bool(count) and ("lead nowhere" in told) == bool(count)
    assert "lead out of" not in told


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (1, "row 1: 'Dog/0.wav' is a link that leads nowhere"),
        (6, "6 recordings are links that lead nowhere"),
    ],
)
def test_a_label_file_that_names_links_to_nowhere_is_told_so(project, tmp_path, n, said):
    paths = [f"Dog/{k}.wav" for k in range(n)]
    for path in paths:
        (project.audio_dir / path).symlink_to("../../../annex/x.wav")
    source = tmp_path / "l.jsonl"
    source.write_text("\n".join(json.dumps({"path": p, "labels": ["Dog"]}) for p in paths))
    done = call(project, "import", source)
    assert done.exit_code != 0 and said in done.stderr and "git annex get" in done.stderr
    assert "--follow-links" not in done.stderr


def test_pipes_and_sockets_are_no_recordings_and_told(project):
    os.mkfifo(project.audio_dir / "Dog" / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        # A path of a socket is short; the folder may not be.
        here = os.getcwd()
        os.chdir(project.audio_dir / "Rain")
        try:
            server.bind("s.wav")
        finally:
            os.chdir(here)
        found, told = imported(project)
    assert found == {"Dog/a.wav": "Dog", "Rain/b.wav": "Rain"}
    assert "2 pipes, sockets or devices are left out: 'Dog/pipe.wav' say" in told


def test_what_a_followed_link_leads_to_is_told(project):
    (project.audio_dir / "Cat").symlink_to("../../away")
    (project.audio_dir / "Wet").symlink_to("Rain")
    _, told = imported(project, "--follow-links")
    assert "1 folders are links out of the audio folder, 'Cat' say; what lies" in told
    assert "1 folders are links into the audio folder, 'Wet' say; what lies there" in told


def test_links_inside_are_followed(project):
    audio = project.audio_dir
    (audio / "Dog" / "again.wav").symlink_to("../Rain/b.wav")
    # Neither takes the place of what it leads to, whichever name comes first.
    (audio / "Animals").symlink_to("Dog")
    (audio / "Wet").symlink_to("Rain")
    assert paths_of(audio) == [
        "Animals/a.wav", "Animals/again.wav", "Dog/a.wav", "Dog/again.wav", "Rain/b.wav",
        "Wet/b.wav",
    ]  # fmt: skip


def test_loops_end(project):
    audio = project.audio_dir
    (audio / "Dog" / "up").symlink_to("..")
    (audio / "Dog" / "self").symlink_to(".")
    (audio / "Rain" / "deep").mkdir()
    (audio / "Rain" / "deep" / "top").symlink_to("../..")
    (audio / "Rain" / "deep" / "rain").symlink_to("..")
    (audio / "Dog" / "nowhere.wav").symlink_to("nowhere.wav")
    found, _ = imported(project)
    assert found == {"Dog/a.wav": "Dog", "Rain/b.wav": "Rain"}


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_files_that_name_links_lead_nowhere_either(project, tmp_path, format):
    (project.audio_dir / "x.wav").symlink_to(tmp_path / "away" / "c.wav")
    (project.audio_dir / "out").symlink_to(tmp_path / "away")
    paths = ["Dog/a.wav", "x.wav", "out/deep/d.wav"]
    source = tmp_path / f"l.{format}"
    if format == "csv":
        write_csv(source, ["fname", "label"], [[path, "Dog"] for path in paths])
    else:
        source.write_text("\n".join(json.dumps({"path": p, "labels": ["Dog"]}) for p in paths))
    done = call(project, "import", source, "--format", format)
    assert done.exit_code == 0 and "2 links lead out of the audio folder, 'out/deep/d.wav' say" in (
        done.stderr
    )
    assert rows(project, "select path from labels_now") == [("Dog/a.wav",)]
    assert call(project, "import", source, "--format", format, "--follow-links").exit_code == 0
    assert sorted(path for (path,) in rows(project, "select path from labels_now")) == sorted(paths)


def test_a_linked_audio_folder_is_no_link_out(project, tmp_path):
    (tmp_path / "alias").symlink_to(project.audio_dir)
    there, _ = create_project(tmp_path / "q", tmp_path / "alias")
    source = write_csv(tmp_path / "l.csv", ["fname", "label"], [["Dog/a.wav", "Dog"]])
    import_labels(there, source, "csv", FormatSpec())
    assert rows(there, "select path from labels_now") == [("Dog/a.wav",)]


def test_what_cannot_be_followed_leads_nowhere(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not leads_out(tmp_path, "loop")
    assert not leads_out(tmp_path, "a" * 5000)
    assert not leads_out(tmp_path, "not/there.wav")
    assert leads_out(tmp_path, "../there.wav") and leads_out(tmp_path, os.devnull)
