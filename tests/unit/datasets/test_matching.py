"""Which recording is meant, however far the path of a label file is from its own."""

import unicodedata

import pytest

from labelkit.config import FormatSpec
from labelkit.datasets.matching import MATCHES, Recordings, spell, stem_of
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from tests.support.clips import write_csv

NFC, NFD = (unicodedata.normalize(form, "Vögel/Zaunkönig.wav") for form in ("NFC", "NFD"))
# The files that are there, the path that is given, the one meant, and how far one must go.
MEANT = {
    "as it is": (["a.wav", "x/a.wav"], "a.wav", "a.wav", "exact"),
    "backslashes": (["sub/e.wav"], "sub\\e.wav", "sub/e.wav", "exact"),
    "backslashes, dots": (["sub/e.wav"], ".\\sub\\e.wav", "sub/e.wav", "exact"),
    "NFD of NFC": ([NFC], NFD, NFC, "exact"),
    "NFC of NFD": ([NFD], NFC, NFD, "exact"),
    "a file with a backslash in its name": (["sub\\e.wav", "sub/e.wav"], "sub\\e.wav",
                                            "sub\\e.wav", "exact"),
    "an address": (["a b/ü.wav"], "a%20b/%C3%BC.wav", "a b/ü.wav", "exact"),
    "a per cent sign": (["100%25.wav", "100%.wav"], "100%25.wav", "100%25.wav", "exact"),
    "an upload to Label Studio": (["x/a.wav"], "0a1b2c3d-a.wav", "x/a.wav", "name"),
    "the address of such an upload": (["a.wav"], "/data/upload/3/0a1b2c3d-a.wav", "a.wav", "name"),
    "the address of a file": (["y/a b.wav"], "file:///home/me/y/a%20b.wav", "y/a b.wav", "name"),
    "a sub-folder": (["x/y/a.wav", "b.wav"], "a.wav", "x/y/a.wav", "name"),
    "another folder": (["x/a.wav"], "y/a.wav", "x/a.wav", "name"),
    "one folder too many": (["a.wav"], "clips/a.wav", "a.wav", "name"),
    "one folder too many, others of the name": (["x/a.wav", "y/a.wav"], "clips/y/a.wav",
                                                "y/a.wav", "name"),
    "a path of Windows": (["x/a.wav", "y/a.wav"], "C:\\data\\y\\a.wav", "y/a.wav", "name"),
    "a path of another computer": (["y/a.wav"], "/home/me/audio/y/a.wav", "y/a.wav", "name"),
    "a path above": (["y/a.wav"], "../audio/y/a.wav", "y/a.wav", "name"),
    "NFD, a sub-folder": ([f"x/{NFC}"], NFD, f"x/{NFC}", "name"),
    "no extension": (["64760.wav", "647.wav"], "64760", "64760.wav", "stem"),
    "no extension, a sub-folder": (["x/64760.wav"], "64760", "x/64760.wav", "stem"),
    "another extension": (["a.flac"], "a.wav", "a.flac", "stem"),
    "another extension, beside": (["x/a.flac", "a.flac"], "a.wav", "a.flac", "stem"),
    "a dot that begins no extension": (["take 1.5.flac"], "take 1.5", "take 1.5.flac", "stem"),
    "another case": (["A.WAV"], "a.wav", "A.WAV", "nocase"),
    "another case of a folder": (["Dog/a.wav"], "dog/a.wav", "Dog/a.wav", "name"),
    "another case of the extension": (["a.WAV"], "a.wav", "a.WAV", "stem"),
    "another case and no extension": (["x/A.flac"], "a", "x/A.flac", "nocase"),
    "folders of another case tell": (["DOG/a.wav", "CAT/a.wav"], "x/dog/a.wav", "DOG/a.wav",
                                     "name"),
}  # fmt: skip
UNCLEAR = {
    "two folders": (["x/a.wav", "y/a.wav"], "a.wav"),
    "two extensions": (["a.wav", "a.flac"], "a"),
    "two cases": (["Ab.wav", "aB.wav"], "ab.wav"),
    "two spellings": ([NFC, NFD], f"./{NFC}".replace("/Z", "\\Z")),
}


@pytest.mark.parametrize(("there", "given", "meant", "match"), MEANT.values(), ids=MEANT)
def test_what_is_meant_is_found_as_far_as_one_goes(there, given, meant, match):
    recordings = Recordings(there)
    for step in MATCHES:
        found = recordings.find(given, step)
        assert found == ([meant] if MATCHES.index(step) >= MATCHES.index(match) else [])
    assert recordings.suggest(given) == (match, [meant])


@pytest.mark.parametrize(("there", "given"), UNCLEAR.values(), ids=UNCLEAR)
def test_where_several_could_be_meant_none_is(there, given):
    assert sorted(Recordings(there).find(given, MATCHES[-1])) == sorted(there)


@pytest.mark.parametrize("given", ["", "/", "..", ".", "\\", "b.wav", "a.wav/"])
def test_where_none_is_meant_none_is_found(given):
    assert Recordings(["a.wav", "x/c.wav"]).find(given, MATCHES[-1]) in ([], ["a.wav"])
    assert spell(given) in ("", "b.wav", "a.wav")


def test_names_and_nearest_names():
    assert [stem_of(n) for n in ("a.wav", "a.b", "a.Opus", ".wav")] == ["a", "a.b", "a", ".wav"]
    assert Recordings(["x/recording_1.wav"]).guess("recordng_1.wav") == "x/recording_1.wav"
    assert Recordings(["x/recording_1.wav"]).guess("birds.wav") is None
    found = Recordings(["a.wav"])
    assert found.find("b", "stem", ["zz", "a"]) == ["a.wav"]


@pytest.fixture
def bring(tmp_path, tone):
    """A function that imports a table of paths beside recordings of other paths."""

    def bring(there, given, **options):
        audio = tmp_path / "audio"
        for number, path in enumerate(there):
            file = audio / path
            file.parent.mkdir(parents=True, exist_ok=True)
            # What comes behind the samples makes other bytes of the same sound.
            file.write_bytes(tone + bytes([number]))
        project, _ = create_project(tmp_path, audio)
        source = write_csv(tmp_path / "l.csv", ("fname", "label"), [(g, "Dog") for g in given])
        metadata_only = options.pop("metadata_only", False)
        import_labels(project, source, "csv", FormatSpec(**options), metadata_only=metadata_only)
        with project.store.read() as session:
            return session.labels().paths

    return bring


@pytest.mark.parametrize(("there", "given", "meant", "match"), MEANT.values(), ids=MEANT)
def test_a_path_that_is_not_quite_right_is_named_and_taken(
    bring, capsys, there, given, meant, match
):
    if match != "exact":
        with pytest.raises(FaultyFile, match=f"--match {match}") as caught:
            bring(there, [given])
        assert repr(meant) in str(caught.value) and "--prefix" not in str(caught.value)
    for how in dict.fromkeys([match, MATCHES[-1]]):
        assert bring(there, [given], match=how) == [meant]
    same = given.removeprefix("./") == meant
    assert ("paths are not quite those of the recordings" in capsys.readouterr().err) != same


@pytest.mark.parametrize(("there", "given"), UNCLEAR.values(), ids=UNCLEAR)
def test_what_could_be_several_is_refused_with_their_names(bring, there, given):
    with pytest.raises(FaultyFile, match="several that could be meant") as caught:
        bring(there, [given], match="nocase")
    assert sum(repr(path) in str(caught.value) for path in there) == 2


def test_what_lies_below_the_audio_folder_is_read_as_that(bring, tmp_path, capsys):
    given = [str(tmp_path / "audio" / "x" / "a.wav"), "./x//b.wav", f"{tmp_path}/audio/./c.wav"]
    assert bring(["x/a.wav", "x/b.wav", "c.wav"], given) == ["x/a.wav", "x/b.wav", "c.wav"]
    assert "2 paths are not quite" in capsys.readouterr().err
    # Again, in other words: nothing new.
    assert len(bring([], ["x/a.wav", "x\\b.wav", "c.wav"])) == 3


def test_paths_may_be_those_from_the_label_file_s_folder(bring, capsys):
    given = ["audio/x/a.wav", "audio/b.wav", "c.wav"]
    assert bring(["x/a.wav", "b.wav", "c.wav", "y/b.wav"], given) == ["x/a.wav", "b.wav", "c.wav"]
    assert "2 paths are not quite" in capsys.readouterr().err


def test_many_that_one_option_takes_are_one_fault(bring):
    there, given = [f"x/{k}.wav" for k in range(9)], [f"{k}.wav" for k in range(9)]
    with pytest.raises(FaultyFile, match="9 recordings do not lie at their paths") as caught:
        bring(there, given)
    assert "--match name" in str(caught.value) and "1 fault," in str(caught.value)
    assert len(bring(there, given, match="name")) == 9


def test_two_paths_of_one_recording_are_a_fault(bring):
    for given in (["a.wav", "y/a.wav"], ["q/a.wav", "r/a.wav"], ["x/a.wav", "x\\a.wav"]):
        with pytest.raises(FaultyFile, match=r"are the same recording, 'x/a\.wav'"):
            bring(["x/a.wav"], given, match="name")


def test_what_is_nowhere_is_told_with_the_nearest_name(bring):
    with pytest.raises(FaultyFile, match=r"nearest name is 'x/recording_1.wav'; put it there"):
        bring(["x/recording_1.wav"], ["recordin_1.wav"], match="nocase")
    with pytest.raises(FaultyFile, match=r"no recording 'birds.wav' in \S+; put it there"):
        bring(["x/recording_1.wav"], ["birds.wav"])


def test_junk_and_links_out_are_never_meant(bring, tmp_path, tone):
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "a.wav").write_bytes(tone)
    (tmp_path / "audio" / "x").mkdir(parents=True)
    (tmp_path / "audio" / "x" / "out").symlink_to(tmp_path / "away")
    there = [".Trash-1000/a.wav", "__MACOSX/a.wav", "x/@eaDir/a.wav"]
    with pytest.raises(FaultyFile, match="put it there"):
        bring(there, ["a.wav"], match="nocase")
    assert bring(there, ["a.wav"], match="name", follow_links=True) == ["x/out/a.wav"]


def test_to_match_and_not_to_look_exclude_each_other(bring):
    bring(["b.wav"], ["b.wav"])
    with pytest.raises(InvalidInput, match="--metadata-only does not; leave one of them out"):
        bring([], ["a.wav"], match="name", metadata_only=True)
