"""The three ways of a recording into the browser: shared folder, upload, http(s) address."""

import hashlib
import json
import os
import threading
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urljoin

import httpx
import numpy as np
import pytest
import soundfile

from labelkit.audio.io import hash_file, read_audio
from labelkit.errors import InvalidInput, ServiceError
from labelkit.label_studio import uploads
from labelkit.label_studio.audio import (
    Share,
    check_urls,
    local_url,
    probe_audio,
    share_folder,
    web_url,
)
from labelkit.label_studio.client import Client
from labelkit.label_studio.uploads import create_box, upload_clips
from tests.support.fault_proxy import bad_gateway, drop, fault_proxy, html, rewrite

ODD_NAMES = [
    "plain.wav",
    "two  blanks .flac",
    "no #1.ogg",
    "what?.wav",
    "100% 41%41.flac",
    "rock & roll.ogg",
    "a+b=c;d,e.wav",
    "Käse Übung ñ 🎵.flac",
    'sub folder/deep#er/it\'s "so".wav',
]
RATE = 8000


def write_tone(path, frequency=440.0, seconds=0.2, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * RATE)) / RATE
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * t), RATE, **options)
    return path


def write_odd_clips(folder):
    for number, name in enumerate(ODD_NAMES):
        write_tone(folder / name, 200.0 + 50 * number)
    return folder


def state_of(folder):
    """Every entry below a folder with its bytes and times: what must not change."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture
def server(label_studio):
    return label_studio


@pytest.fixture
def client(server):
    return Client(server.url, server.token)


@pytest.fixture
def project_id(client):
    return client.create_project("Clips", uploads.BOX_PAGE, "")["id"]


@pytest.fixture
def title(tmp_path):
    """A title of this test's own: the server is one for all tests."""
    return f"Audio of {tmp_path.name}"


@pytest.fixture
def box(client, title):
    return create_box(client, title).box_project_id


@pytest.fixture
def shared_root(server, tmp_path):
    """A folder of this test's own below the server's document root."""
    folder = server.documents / tmp_path.name
    folder.mkdir()
    return folder


def download(client, url):
    """A whole file as a browser gets it: by its URL alone, from the root of the host."""
    headers = {"Authorization": client._credentials.header("download it")}
    return httpx.get(urljoin(client.url, url), headers=headers).raise_for_status().content


# --- shared folder ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_below_the_document_root_is_served_where_it_lies(
    client, project_id, server, shared_root
):
    clips = write_odd_clips(shared_root / "deep er" / "clips #1")
    before = state_of(shared_root)
    share = share_folder(client, project_id, clips, name="demo")
    expected = Share(
        mode="local",
        document_root=str(server.documents),
        folder=f"{shared_root.name}/deep er/clips #1",
    )
    assert share == expected
    for name in ODD_NAMES:
        assert download(client, local_url(share, name)) == (clips / name).read_bytes()
        assert probe_audio(client, local_url(share, name)) is None
    assert state_of(shared_root) == before
    assert [row["path"] for row in client.storages(project_id)] == [str(clips)]


@pytest.mark.slow
def test_any_other_folder_is_served_through_one_link(client, project_id, shared_root, tmp_path):
    clips = write_odd_clips(tmp_path / "my clips & more")
    before = state_of(clips)
    shares = [
        share_folder(client, project_id, clips, document_root=shared_root, name="demo")
        for _ in range(2)
    ]
    assert shares[0] == shares[1]
    # The server's root lies above the given one; the server's is what URLs start from.
    assert shares[0].document_root == str(shared_root.parent)
    assert shares[0].folder == f"{shared_root.name}/demo/audio"
    for name in ODD_NAMES:
        assert download(client, local_url(shares[0], name)) == (clips / name).read_bytes()
    assert [path.name for path in shared_root.rglob("*")] == ["demo", "audio"]
    assert (shared_root / "demo" / "audio").readlink() == clips
    assert [row["path"] for row in client.storages(project_id)] == [str(shared_root / "demo")]
    assert state_of(clips) == before
    assert probe_audio(client, local_url(shares[0], "gone.wav")) == (
        "the server answered 404 in place of the recording; put the file back, correct "
        "its address, or share the folder: labelkit review init"
    )


@pytest.mark.slow
def test_a_folder_spelled_through_a_link_is_found_below_the_root(
    client, project_id, server, shared_root, tmp_path
):
    clips = write_tone(shared_root / "clips" / "a.wav").parent
    (tmp_path / "other way").symlink_to(shared_root)
    share = share_folder(
        client,
        project_id,
        tmp_path / "other way" / "clips",
        document_root=server.documents,
        name="demo",
    )
    assert share.folder == f"{shared_root.name}/clips"
    assert download(client, local_url(share, "a.wav")) == (clips / "a.wav").read_bytes()
    assert not (server.documents / "demo").exists()


@pytest.mark.slow
def test_the_root_is_not_mistaken_for_one_with_a_namesake(client, project_id, server, shared_root):
    """Below a wrong root the path leads to another file, which is served as well."""
    name = shared_root.name
    clips = write_tone(shared_root / "x" / name / "a.wav", 300.0).parent
    write_tone(shared_root / "a.wav", 400.0)
    client.create_storage(project_id, str(shared_root), "the namesake")
    assert client.fetch(f"/data/local-files/?d={name}/a.wav")[0] in (200, 206)
    share = share_folder(client, project_id, clips, name="demo")
    assert share.document_root == str(server.documents)
    assert share.folder == f"{name}/x/{name}"


@pytest.mark.slow
def test_a_folder_the_server_refuses_names_the_setting(client, project_id, server, tmp_path):
    clips = write_tone(tmp_path / "clips" / "a.wav").parent
    with pytest.raises(ServiceError, match="DOCUMENT_ROOT") as caught:
        share_folder(client, project_id, clips, name="demo")
    assert str(caught.value).endswith("as --document-root, and labelkit makes a link in it")
    write_tone(server.documents / "a.wav")
    with pytest.raises(ServiceError, match="DOCUMENT_ROOT"):
        share_folder(client, project_id, server.documents, name="demo")
    (server.documents / "a.wav").unlink()


@pytest.mark.slow
def test_another_file_in_place_of_the_recording_is_an_error(server, project_id, shared_root):
    clips = write_tone(shared_root / "clips" / "a.wav").parent
    write_tone(clips / "longer.txt", seconds=0.5, format="WAV")
    with fault_proxy(server.url) as proxy:
        other = f"?d={shared_root.name}/clips/longer.txt"
        proxy.fail("GET", "local-files", rewrite(r"\?d=.*", other), times=99)
        with pytest.raises(ServiceError, match="does not serve the file") as caught:
            share_folder(Client(proxy.url, server.token), project_id, clips, name="demo")
        assert proxy.count("GET", "local-files") == len(clips.parents)
    assert "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_server_below_a_path_is_heard_there(server, shared_root, title):
    clips = write_odd_clips(shared_root / "clips")
    with fault_proxy(server.url, "/label/studio") as proxy:
        client = Client(proxy.url, server.token)
        project_id = client.create_project("Clips", uploads.BOX_PAGE, "")["id"]
        share = share_folder(client, project_id, clips, name="demo")
        box = create_box(client, title)
        assert share.prefix == box.prefix == "/label/studio"
        sent = [(n, clips / name, None) for n, name in enumerate(ODD_NAMES)]
        urls, faults = upload_clips(client, box.box_project_id, sent)
        assert faults == {}
        for number, name in enumerate(ODD_NAMES):
            for url in (local_url(share, name), urls[number]):
                assert url.startswith("/label/studio/data/")
                assert download(client, url) == (clips / name).read_bytes()
                assert probe_audio(client, url) is None


@pytest.mark.slow
def test_nothing_is_ever_written_into_the_audio_folder(client, project_id, tmp_path):
    clips = write_tone(tmp_path / "clips" / "below" / "a.wav").parents[1]
    root = tmp_path / "root"
    root.mkdir()
    for link in (tmp_path / "way in", root / "demo"):
        link.symlink_to(clips)
    before = state_of(clips)
    # The last one is a root of its own, but the name leads into the audio folder.
    for inside in (clips, clips / "below", tmp_path / "way in", tmp_path / "way in/below", root):
        with pytest.raises(InvalidInput, match="labelkit never writes") as caught:
            share_folder(client, project_id, clips, document_root=inside, name="demo")
        assert str(inside) in str(caught.value) and str(clips) in str(caught.value)
    assert state_of(clips) == before
    assert client.storages(project_id) == []


@pytest.mark.slow
def test_a_link_that_leads_elsewhere_is_named_and_kept(client, project_id, tmp_path):
    clips = write_tone(tmp_path / "clips" / "a.wav").parent
    other = write_tone(tmp_path / "other" / "a.wav").parent
    link = tmp_path / "root" / "demo" / "audio"
    link.parent.mkdir(parents=True)
    for existing in (other, tmp_path / "gone"):
        link.symlink_to(existing)
        with pytest.raises(InvalidInput) as caught:
            share_folder(client, project_id, clips, document_root=tmp_path / "root", name="demo")
        assert str(caught.value) == (
            f"{link}: leads to {existing}, not to {clips}; if this is a copy of a project, give it "
            "another --project or --document-root"
        )
        assert link.readlink() == existing
        link.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", " demo"])
def test_names_that_are_no_folder_are_refused(client, project_id, tmp_path, name):
    clips = write_tone(tmp_path / "clips" / "a.wav").parent
    (tmp_path / "root").mkdir()
    with pytest.raises(InvalidInput, match="is no folder name"):
        share_folder(client, project_id, clips, document_root=tmp_path / "root", name=name)
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.slow
def test_folders_that_cannot_be_shared_say_why(client, project_id, tmp_path):
    with pytest.raises(InvalidInput, match="nowhere: no such folder"):
        share_folder(client, project_id, tmp_path / "nowhere", name="demo")
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "empty.wav").touch()
    (clips / "notes.txt").write_text("no recording")
    with pytest.raises(InvalidInput, match="clips: no recording to try the server with"):
        share_folder(client, project_id, clips, name="demo")
    # A name that is no UTF-8 cannot be in a URL, nor in the store.
    (clips / os.fsdecode(b"\xff.wav")).write_bytes(b"something")
    with pytest.raises(InvalidInput, match="clips: no recording to try the server with"):
        share_folder(client, project_id, clips, name="demo")
    write_tone(clips / "a.wav")
    with pytest.raises(InvalidInput, match=r"no root: no such folder.*DOCUMENT_ROOT"):
        share_folder(client, project_id, clips, document_root=tmp_path / "no root", name="demo")
    # A folder of the kernel takes no new entry, whoever asks.
    with pytest.raises(InvalidInput, match="make it yourself: ln -s"):
        share_folder(client, project_id, clips, document_root=Path("/proc/self"), name="demo")


def test_a_share_survives_json():
    share = Share(mode="local", prefix="/ls", document_root="/srv", folder="clips & more")
    assert Share(**json.loads(json.dumps(asdict(share)))) == share


def test_urls_lie_below_the_path_of_the_server():
    share = Share(mode="local", prefix="/ls", document_root="/srv", folder="clips")
    for name in ODD_NAMES:
        url = local_url(share, name)
        assert url.startswith("/ls/data/local-files/?d=clips/")
        assert not set(url.partition("?d=")[2]) & set(' #?&+;"')
        assert unquote(url.partition("?d=")[2]) == f"clips/{name}"
        there = web_url(Share(mode="url", base_url="https://example.org/a/"), name)
        assert unquote(there) == f"https://example.org/a/{name}"


# --- upload ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_box_that_is_there_is_adopted(client, server, title):
    # Somebody's own project of the same title is not for uploads.
    own = client.create_project(title, uploads.BOX_PAGE, "my own")["id"]
    with fault_proxy(server.url) as proxy:
        proxied = Client(proxy.url, server.token)
        proxy.fail("POST", "/api/projects/$", drop)
        with pytest.raises(ServiceError, match="may have carried it out"):
            create_box(proxied, title)
        box = create_box(proxied, title)
        assert proxy.count("POST", "/api/projects/$") == 1
    assert create_box(client, f" {title} ") == box
    found = {row["id"]: row["description"] for row in client.find_projects(title)}
    assert found == {own: "my own", box.box_project_id: uploads.BOX_DESCRIPTION}
    client.create_project(title, uploads.BOX_PAGE, uploads.BOX_DESCRIPTION)
    assert create_box(client, title) == box


@pytest.mark.slow
def test_a_title_that_is_too_long_is_cut(client, title):
    # The cut falls behind a blank, which the server would take off.
    long = f"{title:-<49} and more"
    box = create_box(client, long)
    assert client.project(box.box_project_id)["title"] == long[:49]
    assert create_box(client, long) == box


def mp4(brand, *handlers):
    """Boxes of an MP4 file with tracks of these kinds and nothing in them."""

    def box(kind, content):
        return (8 + len(content)).to_bytes(4, "big") + kind.encode() + content

    tracks = b"".join(
        box("trak", box("mdia", box("hdlr", bytes(8) + handler.encode() + bytes(13))))
        for handler in handlers
    )
    return box("ftyp", brand.encode() + bytes(4)) + box("mdat", bytes(64)) + box("moov", tracks)


def matroska(kind, *codecs):
    """The beginning of such a file with tracks of these codecs."""
    return (
        b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84"
        + kind.encode()
        + bytes(40)
        + b"".join(b"\x86" + bytes([0x80 | len(codec)]) + codec.encode() for codec in codecs)
    )


def test_a_store_names_no_file_that_is_written(tmp_path):
    """What it says of a recording's hash is the name of nothing here."""
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    clip = folder / "a.aiff"
    soundfile.write(clip, np.full(800, 0.1), RATE)
    for said in (str(tmp_path / "mark"), "../mark", "a/b", "", "0" * 32, "x" * 400):
        faults = {}
        missing = {clip: uploads.identify(clip, said)}
        sent = list(uploads._prepare(missing, out, faults))
        assert faults == {} and [path.parent for _, path in sent] == [out]
        assert set(tmp_path.iterdir()) == {folder, out}
        name = sent[0][0].removesuffix(".flac")
        assert name == (said if said == "0" * 32 else hash_file(clip))


@pytest.mark.slow
def test_uploads_arrive_as_they_were(client, title, tmp_path):
    folder = write_odd_clips(tmp_path / "clips")
    # Nothing here can look into this format; the browser can.
    (folder / "h.webm").write_bytes(matroska("webm", "A_OPUS"))
    (folder / "i.m4a").write_bytes(mp4("M4A ", "soun"))
    before = state_of(folder)
    clips = [
        (10 + n, folder / name, None) for n, name in enumerate([*ODD_NAMES, "h.webm", "i.m4a"])
    ]
    share = create_box(client, title)
    assert (share.mode, share.prefix) == ("upload", "")
    urls, faults = upload_clips(client, share.box_project_id, clips)
    assert faults == {}
    assert sorted(urls) == [clip_id for clip_id, _, _ in clips]
    for clip_id, path, _ in clips:
        assert download(client, urls[clip_id]) == path.read_bytes()
        assert probe_audio(client, urls[clip_id]) is None
    assert state_of(folder) == before


@pytest.mark.slow
def test_a_repeated_upload_sends_only_what_is_missing(client, server, box, tmp_path):
    folder = write_odd_clips(tmp_path / "clips")
    paths = [folder / name for name in ODD_NAMES]
    # A clip of the same content under another name needs no file of its own.
    twin = tmp_path / "twin.wav"
    twin.write_bytes(paths[0].read_bytes())
    new = [(n, path, None) for n, path in enumerate([*paths[:4], twin])]
    first, _ = upload_clips(client, box, new)
    assert first.pop(4) == first[0] and len(client.uploads(box)) == 4
    there = client.uploads(box)
    clips = [(n, path, hash_file(path)) for n, path in enumerate([*paths, twin])]
    second, faults = upload_clips(client, box, clips)
    assert faults == {}
    assert {clip_id: second[clip_id] for clip_id in first} == first
    assert second[len(paths)] == first[0]
    sent = client.uploads(box)
    assert len(sent) == len(paths)
    assert [upload for upload in sent if upload in there] == there
    # What is there needs no file any more.
    folder.rename(tmp_path / "moved")
    assert upload_clips(client, box, clips) == (second, {})
    assert client.uploads(box) == sent
    # A file that got lost on the server is sent again.
    (lost,) = server.documents.parent.rglob(Path(first[1]).name)
    lost.unlink()
    (tmp_path / "moved").rename(folder)
    third, faults = upload_clips(client, box, clips)
    assert faults == {} and third[1] != first[1]
    assert download(client, third[1]) == paths[1].read_bytes()
    assert [clip_id for clip_id in second if third[clip_id] != second[clip_id]] == [1]


@pytest.mark.slow
def test_formats_the_server_refuses_arrive_as_flac(client, box, tmp_path):
    options = {"a.aiff": {}, "b.AIF": {"format": "AIFF"}, "c.au": {}, "d.w64": {}, "e.caf": {}}
    paths = [
        write_tone(tmp_path / "clips" / name, 300.0 + 50 * n, **extra)
        for n, (name, extra) in enumerate(options.items())
    ]
    paths += [
        write_tone(tmp_path / "clips" / name, 900.0, format="OGG", subtype=subtype)
        for name, subtype in (("f.oga", "VORBIS"), ("g.opus", "OPUS"))
    ]
    urls, faults = upload_clips(client, box, [(n, path, None) for n, path in enumerate(paths)])
    assert faults == {} and len(urls) == len(paths)
    for number, path in enumerate(paths):
        assert urls[number].endswith(f"-{hash_file(path)}.flac")
        heard, rate = soundfile.read(BytesIO(download(client, urls[number])))
        meant, meant_rate = read_audio(path)
        assert rate == meant_rate
        np.testing.assert_allclose(heard, meant[:, 0], atol=2**-15)


@pytest.mark.slow
def test_a_faulty_file_is_listed_and_the_rest_goes_on(client, box, tmp_path, monkeypatch):
    folder = tmp_path / "clips"
    good = [write_tone(folder / f"{n}.wav", 300.0 + n) for n in range(3)]
    large = write_tone(folder / "large.wav", seconds=5.0)
    monkeypatch.setattr(uploads, "MAX_BYTES", 20_000)
    noise, twin, silent = folder / "noise.wav", folder / "noise2.wav", folder / "none.wav"
    noise.write_bytes(b"no sound at all")
    twin.write_bytes(b"no sound at all")
    soundfile.write(silent, np.zeros(0), RATE)
    gone, folderish = folder / "gone.wav", folder / "sub.wav"
    folderish.mkdir()
    foreign = {
        "notes.m4a": b"no sound at all", "table.mp4": b"a,b\n1,2\n3,4\n", "empty.webm": b"",
        "page.M4A": b"<!doctype html>",
        # The first bytes alone say nothing.
        "secret.m4a": b"\0\0\0\x18ftypM4A my secret" + bytes(range(256)),
        "secret.webm": b"\x1a\x45\xdf\xa3 my secret" + bytes(range(256)),
        "photo.mp4": mp4("heic", "pict"), "film.mp4": mp4("isom", "vide", "soun"),
        "film.webm": matroska("webm", "V_VP9", "A_OPUS"), "cut.m4a": mp4("M4A ", "soun")[:-40],
    }  # fmt: skip
    named = [folder / name for name in foreign]
    for file, content in zip(named, foreign.values(), strict=True):
        file.write_bytes(content)
    bad = [large, noise, twin, silent, gone, folderish, *named]
    clips = [(n, path, None) for n, path in enumerate([*bad, *good])]
    # Gone, but another file has what the store knows it held.
    clips.insert(0, (99, folder / "gone too.wav", hash_file(good[0])))
    urls, faults = upload_clips(client, box, clips)
    first = len(bad)
    assert sorted(urls) == [first, first + 1, first + 2, 99] and urls[99] == urls[first]
    assert set(faults) == set(bad)
    assert faults[large] == (
        "80044 bytes, and a request may hold 20000; share the folder, or give the recordings' "
        "own http address"
    )
    assert faults[noise].startswith("libsndfile says: ") and faults[noise] == faults[twin]
    for file in named:
        assert faults[file] == "is no recording, whatever its name says; restore the file"
    assert faults[silent] == "holds no samples; restore the file"
    assert faults[gone] == "cannot be read (No such file or directory); restore the file"
    assert faults[folderish] == "cannot be read (Is a directory); restore the file"


def test_batches_are_as_large_as_a_request_may_be(tmp_path, monkeypatch):
    paths = [tmp_path / f"{n}.wav" for n in range(7)]
    for path in paths:
        path.write_bytes(bytes(10))
    files = [(path.name, path) for path in paths]
    for limits, expected in (
        ((3, 1000), [3, 3, 1]),
        ((7, 1000), [7]),
        ((100, 20), [2, 2, 2, 1]),
        ((100, 29), [2, 2, 2, 1]),
        ((100, 1), [1] * 7),
    ):
        for limit, value in zip(("MAX_FILES", "MAX_BYTES"), limits, strict=True):
            monkeypatch.setattr(uploads, limit, value)
        batches = list(uploads._batches(iter(files)))
        assert [len(batch) for batch in batches] == expected
        assert [file for batch in batches for file in batch] == files


@pytest.mark.slow
def test_the_largest_request_is_taken(client, box, tmp_path):
    """One of 250 MiB is answered 500; holes take no room on the disk."""
    path = tmp_path / "large.webm"
    with path.open("wb") as file:
        file.write(matroska("webm", "A_OPUS"))
        file.truncate(uploads.MAX_BYTES)
    urls, faults = upload_clips(client, box, [(1, path, "0" * 32)])
    assert faults == {} and probe_audio(client, urls[1]) is None


@pytest.mark.slow
def test_one_hundred_and_one_files_are_two_requests(client, box, tmp_path):
    """One request of 101 files is answered 500 by the server."""
    paths = [write_tone(tmp_path / f"{n}.wav", 300.0 + n, seconds=0.01) for n in range(101)]
    assert len({path.read_bytes() for path in paths}) == 101
    urls, faults = upload_clips(client, box, [(n, path, None) for n, path in enumerate(paths)])
    assert faults == {} and len(set(urls.values())) == 101


@pytest.mark.slow
@pytest.mark.parametrize("fault", [drop, bad_gateway])
def test_a_lost_reply_is_no_second_upload(server, box, tmp_path, fault):
    paths = [write_tone(tmp_path / f"{n}.wav", 300.0 + n) for n in range(2)]
    clips = [(n, path, None) for n, path in enumerate(paths)]
    with fault_proxy(server.url) as proxy:
        client = Client(proxy.url, server.token)
        proxy.fail("POST", "import", fault)
        urls, faults = upload_clips(client, box, clips)
        assert proxy.count("POST", "import") == 1
        assert faults == {} and len(client.uploads(box)) == 2
        assert [download(client, urls[n]) for n in range(2)] == [p.read_bytes() for p in paths]


@pytest.mark.slow
def test_an_upload_that_failed_is_an_error_and_can_be_repeated(server, box, tmp_path):
    path = write_tone(tmp_path / "a.wav")
    with fault_proxy(server.url) as proxy:
        client = Client(proxy.url, server.token)
        proxy.fail("POST", "import", html(502))
        with pytest.raises(ServiceError, match="502"):
            upload_clips(client, box, [(1, path, None)])
        assert client.uploads(box) == []
        urls, faults = upload_clips(client, box, [(1, path, None)])
        assert faults == {} and download(client, urls[1]) == path.read_bytes()


@pytest.mark.slow
def test_real_clips_are_served_in_both_ways(client, project_id, box, shared_root, shared_data):
    folder = shared_data / "esc10" / "audio"
    names = sorted(path.name for path in folder.iterdir())[:20]
    share = share_folder(client, project_id, folder, document_root=shared_root, name="esc10")
    assert check_urls(client, [local_url(share, name) for name in names]) == {}
    clips = [(n, folder / name, None) for n, name in enumerate(names)]
    urls, faults = upload_clips(client, box, clips)
    assert faults == {} and check_urls(client, urls.values()) == {}


# --- http(s) addresses -----------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """Answers ``/STATUS/TYPE/ALLOWED`` as its path says, and notes who asked for what."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Origin"], self.headers["Range"]))
        self.server.tokens.append(self.headers["Authorization"])
        status, kind, allowed = map(unquote, self.path.split("/")[1:4])
        with self.server.gate:
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
        self.server.pause.wait(0.05)
        with self.server.gate:
            self.server.running -= 1
        self.send_response(int(status))
        self.send_header("Content-Type", kind)
        if allowed:
            self.send_header("Access-Control-Allow-Origin", allowed)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"RIFF")

    def log_message(self, *rest):
        pass


@contextmanager
def answering():
    """An http server of another host, as far as a browser is concerned."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.tokens, server.running, server.most = [], [], 0, 0
    server.gate, server.pause = threading.Lock(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_urls_are_asked_as_a_browser_would(client, server):
    origin = "https://ls.example.org"
    with answering() as other:
        # An https page loads no http file, so the rest is asked for a page of plain http.
        secure = check_urls(client, [f"{other.url}/206/audio%2Fwav/*"], origin)
        assert list(secure.values()) == [
            f"a page of {origin} may load no http audio; serve the recordings by https"
        ]
        assert other.asked == []
        origin = "http://ls.example.org"
        good = [
            f"{other.url}/206/audio%2Fwav/*/1.wav",
            f"{other.url}/200/audio%2Fx-wav/{origin.replace('/', '%2F')}/2.wav",
            f"{other.url}/206/application%2Foctet-stream/*/3.wav",
        ]
        header = f"let it send the header Access-Control-Allow-Origin: {origin}"
        bad = {
            f"{other.url}/206/audio%2Fwav//4.wav": (
                f"its host lets pages of no other host read it (CORS); {header}"
            ),
            f"{other.url}/206/audio%2Fwav/http:%2F%2Felse.where/5.wav": (
                f"its host lets pages of http://else.where read it (CORS); {header}"
            ),
            f"{other.url}/404/audio%2Fwav/*/6.wav": (
                "the server answered 404 in place of the recording; put the file back, "
                "correct its address, or share the folder: labelkit review init"
            ),
            f"{other.url}/503/audio%2Fwav/*/7.wav": (
                "the server answered 503 in place of the recording; look into the log of its server"
            ),
            f"{other.url}/200/text%2Fhtml; charset=utf-8/*/8.wav": (
                "a web page came in place of the recording; give the URL of the file itself"
            ),
            "s3://bucket/9.wav": "a browser cannot fetch it; give an http or https URL",
        }
        assert check_urls(client, [*good, *bad, *good], f"{origin}:80/") == bad
        assert len(other.asked) == len(good) + len(bad) - 1
        assert {asked[1:] for asked in other.asked} == {(origin, "bytes=0-99")}
        assert set(other.tokens) == {None}
        check_urls(client, [f"{other.url}/206/audio%2Fwav/*/{n}.wav" for n in range(40)], origin)
        assert 2 <= other.most <= 8


@pytest.mark.slow
def test_urls_of_the_own_host_need_no_header(client, server, shared_root):
    write_tone(shared_root / "clips" / "a.wav")
    project_id = client.create_project("Clips", uploads.BOX_PAGE, "")["id"]
    share = share_folder(client, project_id, shared_root / "clips", name="demo")
    url = local_url(share, "a.wav")
    assert check_urls(client, [url, server.url + url]) == {}
    # Wherever the browser finds it, and whether or not the file can be read from elsewhere.
    assert check_urls(client, [url, server.url + url], "https://ls.example.org") == {}
    gone = local_url(share, "b.wav")
    assert list(check_urls(client, [gone, url])) == [gone]
    login = check_urls(client, [server.url + "/user/login/"])
    assert list(login.values()) == [
        "a web page came in place of the recording; give the URL of the file itself"
    ]


@pytest.mark.slow
def test_hosts_and_urls_that_are_none_are_reasons_too(client):
    with answering() as other:
        closed = f"{other.url}/206/audio%2Fwav/*/1.wav"
    odd = ["http://[::1/a.wav", "http://127.0.0.1:99999/a.wav", "http:///a.wav"]
    reasons = check_urls(client, [closed, *odd])
    assert list(reasons) == [closed, *odd]
    assert all(reason and "\n" not in reason for reason in reasons.values())
