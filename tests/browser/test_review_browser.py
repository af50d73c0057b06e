"""Annotators at work in a real browser: what they see, and that exactly their answers come back.

LABELKIT_SCREENSHOT=docs/images/review.png keeps a picture of the page.
"""

import os
import re
import shutil
import time

import pytest
from playwright.sync_api import expect, sync_playwright

from labelkit.cleaning.score import score
from labelkit.config import FormatSpec, ReviewSpec, read_recipe
from labelkit.label_studio.page import VERDICTS
from labelkit.labels.classes import rename_class
from labelkit.labels.importing import import_labels
from labelkit.records import Batch
from labelkit.review.pull import pull
from labelkit.review.push import push
from labelkit.review.queue import Choice, read_queue
from labelkit.review.setup import set_up
from labelkit.runs.folds import freeze_folds
from labelkit.runs.verify import verify
from tests.support.clips import write_csv
from tests.support.label_studio_server import EMAIL, PASSWORD
from tests.support.projects import TINY, copy_project
from tests.support.requirements import absent

# A page that is drawn late is not drawn wrong: nothing runs beside it.
pytestmark = [pytest.mark.slow, pytest.mark.alone]

# Windows of one second in clips of three, so that there are doubtful seconds.
RECIPE = read_recipe(
    "quick",
    (*TINY, "input.frames=16", "features.n_mels=32", "model.width=12",
     "pretrain.epochs=30", "finetune.epochs=10"),
)  # fmt: skip
ODD_NAMES = [
    "Fill_(with_liquid)", "Rock & roll", 'He said "hi"', "Cat's purr", "<angle>", "a; b", "Größe",
    "🐶 bark", "A$B", "$audio", "US$", "{braces}", "percent%41", "back\\slash", "a/b:c", "#1",
    "None", "0", "true", "&amp;", "a|b", "=cmd", "two  blanks", "\\u0041", "none of these",
]  # fmt: skip
ENDED = "[data-testid=timebox-end-time] input"
BOXES = ".lsf-choices input"
NUMBER = ".lsf-current-task__task-id"
FFT = re.compile(r"/710\.js")
WINDOW = {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("LABELKIT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        absent(
            "browser",
            "no Chromium here; install it with `make browser`, or let LABELKIT_CHROMIUM name one",
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


class Editor:
    """The labelling page of one annotator, logged in."""

    def __init__(self, browser, url):
        self.url = url
        self.page = browser.new_page(**WINDOW if hasattr(browser, "new_context") else {})
        self.page.goto(f"{url}/user/login/")
        self.page.fill("input[name=email]", EMAIL)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda where: "login" not in where)

    def open_queue(self, setup):
        """Open the label stream of a project; the seconds of its first clip."""
        self.page.goto(f"{self.url}/projects/{setup.project_id}/data?labeling=1")
        return self.duration_s()

    def duration_s(self):
        """The length of the recording, once it is decoded."""
        self.page.wait_for_selector(BOXES)
        self.page.wait_for_function(
            f"/[1-9]/.test(document.querySelector('{ENDED}')?.value ?? '')", timeout=60_000
        )
        hours, minutes, seconds, ms = map(int, self.page.input_value(ENDED).split(":"))
        return 3600 * hours + 60 * minutes + seconds + ms / 1000

    def ticked(self):
        """What is ticked, labels and verdicts, as it is written on the page."""
        return self.page.eval_on_selector_all(f"{BOXES}:checked", "found => found.map(f => f.name)")

    def tick(self, *numbers):
        """Tick, or take back, choices by their place on the page."""
        for number in numbers:
            self.page.locator(BOXES).nth(number).click(force=True)

    def press(self, key, expected):
        """Press a key outside all text boxes; exactly what is expected gets ticked."""
        self.page.evaluate("document.activeElement.blur()")
        self.page.keyboard.press(key.replace("shift", "Shift"))
        expect(self.page.locator(f"{BOXES}:checked")).to_have_count(len(expected))
        assert self.ticked() == expected, key

    def hints(self):
        """The key of each choice that has one."""
        pairs = self.page.eval_on_selector_all(
            ".lsf-choice:has(sup)",
            """found => found.map(
                f => [f.querySelector('input').name, f.querySelector('sup').innerText]
            )""",
        )
        return {name: key.strip("[]") for name, key in pairs}

    def leave(self, button):
        """Press Submit or Skip, and wait until the next task is there or none is left."""
        number = self.page.inner_text(NUMBER)
        with self.page.expect_response(
            lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
        ) as answer:
            self.page.get_by_text(button, exact=True).click()
        assert answer.value.status == 201
        self.page.wait_for_function(
            f"number => document.querySelector('{NUMBER}')?.innerText != number", arg=number
        )

    def take_next(self, button):
        """Press Submit or Skip; the next recording is decoded then."""
        self.leave(button)
        self.duration_s()

    def see_sound(self, timeout_s=120):
        """Wait until the waveform is drawn, and below it the spectrogram up to its last seconds."""
        self.page.wait_for_function(
            """() => {
                const canvas = document.querySelector('canvas')
                const [width, half] = [canvas.width, canvas.height / 2]
                const colours = (left, top) => new Set(new Uint32Array(
                    canvas.getContext('2d').getImageData(left, top, width, half).data.buffer
                )).size
                return colours(0, 0) > 200 && colours(width - 20, half) > 200
            }""",
            timeout=1000 * timeout_s,
        )
        expect(self.page.locator("#spectrogram-progress-overlay")).to_be_hidden()


@pytest.fixture(scope="module")
def editor(chromium, label_studio):
    return Editor(chromium, label_studio.url)


@pytest.fixture
def token(label_studio, tmp_path):
    """The file of the token, outside of every project."""
    file = tmp_path / "token"
    file.write_text(label_studio.token)
    return file


@pytest.fixture(scope="module")
def doubted_project(bare_project, tmp_path_factory):
    """A project whose clips a small model has judged, second by second."""
    project = copy_project(bare_project, tmp_path_factory.mktemp("doubted") / "p")
    freeze_folds(project, n=2)
    verify(project, RECIPE, workers=1)
    score(project, methods=("lwlrap",))
    return project


def send(project, server, token, title, choice, **settings):
    """Make the project in Label Studio and send clips to it."""
    spec = ReviewSpec(document_root=str(server.documents), **settings)
    setup, done = set_up(project, server.url, title, spec, token_file=token)
    assert done == "made"
    clips, _ = push(project, choice, token_file=token)
    return setup, clips


def answers(project, *columns):
    with project.store.read() as session:
        return session.rows(f"select {', '.join(columns)} from reviews_now order by review_id")


def labels_now(project):
    with project.store.read() as session:
        rows = session.rows("select path, labels, state from labels_now")
    return {path: (labels, state) for path, labels, state in rows}


def test_a_queue_is_heard_and_answered(editor, doubted_project, label_studio, token, tmp_path):
    choice = Choice(lowest=("lwlrap", 4))
    setup, clips = send(doubted_project, label_studio, token, "Doubtful clips", choice)
    queue = read_queue(doubted_project, choice)
    before = labels_now(doubted_project)
    with doubted_project.store.read() as session:
        classes = session.classes()
    new = next(name for name in classes if name not in clips[2].labels + clips[2].suggested)

    assert editor.open_queue(setup) == pytest.approx(3, abs=0.01)
    editor.see_sound()
    text = editor.page.inner_text("body")
    for expected in (clips[0].reason, clips[0].path, *clips[0].labels, *clips[0].suggested):
        assert expected in text
    assert "frequency (Hz) upwards" in text and "Time (h:min:s)" in text
    assert editor.ticked() == clips[0].suggested
    assert queue.items[0].seconds and editor.page.get_by_text("doubtful", exact=True).count() == 2

    # As suggested; skipped as it stands; one more label; none of these, all by keys.
    editor.take_next("Submit")
    assert editor.ticked() == clips[1].suggested
    editor.take_next("Skip")
    editor.tick(classes.index(new))
    editor.page.fill("[data-testid=textarea-control] textarea", "two sounds")
    third = editor.ticked()
    # Every clip has one label: a tick takes the place of the one before.
    assert third == [new]
    editor.take_next("Submit")
    # Loaded anew, the page is the same and says nothing of the last answer any more.
    editor.page.reload()
    editor.duration_s()
    editor.see_sound()
    assert editor.ticked() == clips[3].suggested
    editor.page.screenshot(path=os.environ.get("LABELKIT_SCREENSHOT", tmp_path / "review.png"))
    hints = editor.hints()
    editor.press(hints[clips[3].suggested[0]], [])
    editor.press(hints["none of these"], ["none of these"])
    editor.leave("Submit")

    pull(doubted_project, token_file=token)
    columns = ("path", "annotator", "answer", "labels", "origin", "comment")
    assert answers(doubted_project, *columns) == [
        (clips[0].path, EMAIL, "labels", clips[0].suggested, "accepted", None),
        (clips[1].path, EMAIL, "skipped", [], None, None),
        (clips[2].path, EMAIL, "labels", third, "changed", "two sounds"),
        (clips[3].path, EMAIL, "none", [], "manual", None),
    ]
    told = answers(doubted_project, "model_version", "lead_time_s > 0")
    assert told == [(queue.model_version, True)] * 4
    assert labels_now(doubted_project) == before | {
        clips[0].path: (clips[0].suggested, "relabeled"),
        clips[2].path: (third, "relabeled"),
        clips[3].path: ([], "relabeled"),
    }


@pytest.mark.parametrize("late_s", [0, 3])
def test_the_first_task_of_a_fresh_browser_has_its_spectrogram(
    chromium, doubted_project, label_studio, token, late_s
):
    choice = Choice(lowest=("lwlrap", 2))
    setup, _ = send(doubted_project, label_studio, token, f"Fresh {late_s}", choice)
    # A service worker would fetch past whoever holds something up.
    workers = "block" if late_s else "allow"
    context, held = chromium.new_context(service_workers=workers, **WINDOW), []
    try:
        fresh = Editor(context, label_studio.url)

        def hold(route):
            held.append(route.request.url)
            time.sleep(late_s)
            route.continue_()

        # Label Studio asks for what computes spectrograms once a recording is decoded.
        if late_s:
            fresh.page.route(FFT, hold)
        fresh.open_queue(setup)
        fresh.see_sound(timeout_s=30)
        assert len(held) == (late_s > 0)
    finally:
        context.close()


PLAYERS = ".labelkit-example audio[src]"


def test_a_clip_of_the_class_can_be_heard(editor, doubted_project, label_studio, token):
    choice = Choice(lowest=("lwlrap", 1))
    setup, clips = send(doubted_project, label_studio, token, "Examples", choice)
    [item] = read_queue(doubted_project, choice).items
    wanted = [example for example in (item.given_example, item.suggested_example) if example]
    assert wanted
    editor.open_queue(setup)
    players = editor.page.locator(PLAYERS)
    expect(players).to_have_count(len(wanted))
    text = editor.page.inner_text("body")
    for k, (name, example) in enumerate(wanted):
        assert f"{name}:" in text
        duration_s, source = players.nth(k).evaluate(
            "async a => { a.muted = true; await a.play(); a.pause(); return [a.duration, a.src] }"
        )
        assert duration_s == pytest.approx(3, abs=0.05) and source.endswith(example.path)
        assert example.path != clips[0].path


def test_a_page_of_eighty_classes(editor, label_studio, token, tone_project, tmp_path):
    names = [f"Class number {k:02d}" for k in range(80)]
    rows = [[f"{k % 6}.wav", names[k]] for k in range(6)]
    table = write_csv(tmp_path / "a.csv", ["fname", "label"], rows)
    import_labels(tone_project, table, "csv", FormatSpec())
    with tone_project.store.write() as session:
        session.append(Batch(key="more", kind="import", actor="me", by_person=True,
                             classes=names[6:]))  # fmt: skip
    setup, _ = send(tone_project, label_studio, token, "Eighty", Choice(where="true"))
    editor.open_queue(setup)
    expect(editor.page.locator(BOXES)).to_have_count(80 + len(VERDICTS))
    # One label a clip: of two ticks the second stays.
    editor.tick(70)
    editor.tick(71)
    assert editor.ticked() == [names[71]]
    # Nobody is trusted yet, so there is nothing to compare with, and no dead player.
    expect(editor.page.locator(".labelkit-example audio:visible")).to_have_count(0)
    editor.page.get_by_placeholder("Find a class").click()
    editor.page.keyboard.type("number 42", delay=20)
    expect(editor.page.locator(f"{BOXES}:visible")).to_have_count(1 + len(VERDICTS))
    editor.leave("Submit")
    pull(tone_project, token_file=token)
    assert answers(tone_project, "answer", "labels") == [("labels", [names[71]])]


def test_a_blind_page_shows_no_suggestion(editor, doubted_project, label_studio, token):
    choice = Choice(lowest=("lwlrap", 2))
    setup, clips = send(doubted_project, label_studio, token, "Blind", choice, blind=True)
    editor.open_queue(setup)
    text = editor.page.inner_text("body")
    assert editor.ticked() == []
    assert clips[0].reason not in text and "The model" not in text and "uggest" not in text
    # The region would stand in the list beside its control.
    assert editor.page.get_by_text("doubtful", exact=True).count() == 1
    # A slip of the hand is no answer: with nothing ticked there is nothing to submit.
    submit = editor.page.get_by_text("Submit", exact=True)
    expect(submit).to_be_disabled()
    editor.tick(0)
    expect(submit).to_be_enabled()


def test_any_name_comes_back_exactly(editor, label_studio, token, tone_project, tmp_path):
    rows = [[f"{k}.wav", "\n".join(ODD_NAMES[k::6])] for k in range(6)]
    table = write_csv(tmp_path / "odd.csv", ["fname", "label"], rows)
    import_labels(tone_project, table, "csv", FormatSpec(separator="\n"))
    with tone_project.store.read() as session:
        classes = session.classes()
    assert sorted(classes) == sorted(ODD_NAMES)
    setup, _ = send(tone_project, label_studio, token, "Odd names", Choice(where="true"))
    editor.open_queue(setup)
    editor.tick(*range(0, len(classes), 2))
    editor.take_next("Submit")
    editor.tick(*range(1, len(classes), 2))
    editor.leave("Submit")
    pull(tone_project, token_file=token)
    assert answers(tone_project, "answer", "labels") == [
        ("labels", classes[0::2]),
        ("labels", classes[1::2]),
    ]


def test_keys_and_search_find_a_class(editor, doubted_project, label_studio, token):
    choice = Choice(lowest=("lwlrap", 1))
    setup, _ = send(doubted_project, label_studio, token, "Keys", choice, blind=True)
    editor.open_queue(setup)
    hints = editor.hints()
    names = editor.page.eval_on_selector_all(BOXES, "found => found.map(f => f.name)")
    assert list(hints) == names and len(set(hints.values())) == len(names)
    for name, key in hints.items():
        editor.press(key, [name])
        editor.press(key, [])
    search = editor.page.get_by_placeholder("Find a class")
    search.click()
    editor.page.keyboard.type("glide", delay=20)
    shown = editor.page.locator(f"{BOXES}:visible")
    # Verdicts are not searched.
    expect(shown).to_have_count(2 + len(VERDICTS))
    left = [box.get_attribute("name") for box in shown.all()]
    assert left == ["Falling_glide", "Rising_glide", *VERDICTS]
    # Typing ticks nothing, though letters of it are keys.
    assert editor.ticked() == []


def test_former_names_of_classes_are_not_seen(editor, label_studio, token, tone_project, tmp_path):
    rows = [[f"{k}.wav", ("Old", "Other")[k % 2]] for k in range(6)]
    table = write_csv(tmp_path / "a.csv", ["fname", "label"], rows)
    import_labels(tone_project, table, "csv", FormatSpec())
    setup, _ = send(tone_project, label_studio, token, "Renamed", Choice(where="true"))
    editor.open_queue(setup)
    editor.tick(0)
    editor.take_next("Submit")
    pull(tone_project, token_file=token)
    rename_class(tone_project, "Old", "New")
    push(tone_project, Choice(where="state = 'unverified'"), token_file=token)
    editor.open_queue(setup)
    seen = editor.page.locator(f"{BOXES}:visible")
    expect(seen).to_have_count(2 + len(VERDICTS))
    assert editor.page.get_by_text("Old", exact=True).locator("visible=true").count() == 0
    editor.page.screenshot(path=tmp_path / "renamed.png")
    # Nor is there a key that ticks one.
    hints = editor.hints()
    assert set(hints) >= {"New", "Other"}
    editor.press(hints["New"], ["New"])
    editor.leave("Submit")
    pull(tone_project, token_file=token)
    assert {tuple(labels) for _, labels in answers(tone_project, "answer", "labels")} == {("New",)}
