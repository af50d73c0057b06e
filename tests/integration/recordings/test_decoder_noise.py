"""What decoders print of their own is on nobody's stderr, and what labelkit says is."""

import os
import re
import subprocess
import sys
import threading

import pytest
import soundfile

from labelkit.audio.io import duration_s, read_audio
from labelkit.audio.quiet import quietly
from labelkit.errors import InvalidInput
from labelkit.progress import say
from labelkit.project import create_project
from tests.support.clips import write_csv, write_tone
from tests.support.recordings import NOISY, make_noisy_mp3, missing_tools

# What labelkit itself says of such recordings.
OURS = re.compile(
    r"[a-z ]+: \d+ of \d+$|\d+ (spectrograms|issues|rows) |next: "
    r"|  [AB]  5$|one label a clip, from now on; "
)


def labelkit(root, *words):
    done = subprocess.run(
        [sys.executable, "-m", "labelkit", "-C", str(root), *map(str, words)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A project of damaged mp3s and two tones; only ever read."""
    root = tmp_path_factory.mktemp("spoilt")
    (root / "audio").mkdir()
    names = []
    for damage in NOISY:
        for seed in range(2):
            path = make_noisy_mp3(root / "audio" / f"{damage}{seed}.mp3", damage, seed)
            names.append(path.name)
    for name, pitch in (("a.wav", 300), ("b.wav", 700)):
        write_tone(root / "audio" / name, pitch)
        names.append(name)
    create_project(root, root / "audio")
    write_csv(root / "l.csv", ("fname", "label"), [(n, "AB"[k % 2]) for k, n in enumerate(names)])
    done = labelkit(root, "import", root / "l.csv", "--format", "csv")
    return root, done.stderr


@pytest.mark.parametrize("damage", NOISY)
def test_decoders_do_speak(tmp_path, damage, capfd):
    """Otherwise the tests below show nothing."""
    path = make_noisy_mp3(tmp_path / "a.mp3", damage)
    try:
        soundfile.read(path)
    except soundfile.LibsndfileError:
        pass
    assert re.search("libmpg123|Note: |Warning: ", capfd.readouterr().err)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", NOISY)
def test_reading_is_silent(tmp_path, damage, seed, capfd):
    path = make_noisy_mp3(tmp_path / "a.mp3", damage, seed)
    samples, rate = read_audio(path)
    assert len(samples) > rate and duration_s(path) > 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.skipif("ffmpeg" in missing_tools(), reason="ffmpeg makes them")
@pytest.mark.parametrize("ending", [".m4a", ".webm", ".wma", ".ogg", ".flac", ".mp2"])
def test_other_decoders_are_silent(tmp_path, ending, capfd):
    pytest.importorskip("av")
    write_tone(tmp_path / "a.wav", 500, seconds=3)
    path = tmp_path / f"a{ending}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", path], check=True)
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data), 97):
        data[place] ^= 0x55
    path.write_bytes(data)
    try:
        read_audio(path)
    except InvalidInput:
        pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check", "--fast", "--workers", 1], "issues of"),
        (["check", "--fast", "--workers", 2], "issues of"),
        (["features", "--workers", 1], "spectrograms in"),
        (["features", "--workers", 2, "--set", "features.n_mels=24"], "spectrograms in"),
    ],
)
def test_stderr_of_commands_holds_no_foreign_line(spoilt, words, says):
    told = labelkit(spoilt[0], *words).stderr
    assert says in told and re.search(r": \d+ of \d+$", told, re.M), told
    assert [line for line in told.splitlines() if not OURS.match(line)] == []


@pytest.mark.slow
def test_an_import_is_silent_too(spoilt):
    told = spoilt[1]
    assert "10 clips added" in told and "looking at recordings: 10 of 10" in told
    assert [line for line in told.splitlines() if not OURS.match(line)] == []


@pytest.mark.slow
def test_damage_is_told_with_the_name_of_its_file(spoilt):
    shown = labelkit(spoilt[0], "check", "--fast", "--workers", 1).stdout
    assert re.search(r"(dropped|blanked|spoilt|overwritten)\d\.mp3 +truncated", shown), shown


def test_notes_of_other_threads_are_not_lost(capfd):
    """However many decode at once, what Python prints meanwhile is printed."""
    go = threading.Event()

    def decode():
        while not go.is_set():
            with quietly():
                pass

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(500):
        say(f"note {number}")
        os.write(2, b"direct\n")
    go.set()
    for thread in threads:
        thread.join()
    told = capfd.readouterr().err
    assert told.count("direct\n") == 500
    assert all(f"note {number}\n" in told for number in range(500))


def test_the_stream_is_given_back(tmp_path, capfd):
    path = make_noisy_mp3(tmp_path / "a.mp3", "dropped")
    for wrong in (False, True):
        with pytest.raises(ZeroDivisionError) if wrong else quietly(), quietly():
            assert not wrong or 1 / 0
        soundfile.read(path)
        assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err


def test_a_child_forked_meanwhile_speaks(tmp_path, capfd):
    path = make_noisy_mp3(tmp_path / "a.mp3", "dropped")
    with quietly():
        child = os.fork()
        if not child:
            soundfile.read(path)
            os._exit(0)
        os.waitpid(child, 0)
        soundfile.read(path)
    assert capfd.readouterr().err.count("Illegal Audio-MPEG-Header") == 1
