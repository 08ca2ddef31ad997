"""The viewer in a real browser: every key, marks, filters, a hostile trace, a copy without a server, and its token."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import ROOT
from looked_at import make_store

from harvest.store import Store

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 20_000


@dataclass
class Viewer:
    """A viewer's process, and the store that it shows."""

    address: str
    url: str
    ids: dict[str, int]

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, str]:
        """Sends one request as any program of this machine can. Returns (status, body)."""
        at = urlsplit(self.address)
        connection = http.client.HTTPConnection(at.netloc, timeout=20)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found


@contextmanager
def viewing(folder: Path, url: str) -> Iterator[str]:
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harvest", "view", "--store", url, "apples"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("viewer")
    url = f"sqlite:///{folder / 'store.db'}"
    ids = make_store(url, line=5_000_000)
    with viewing(folder, url) as address:
        yield Viewer(address, url, ids)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `dev`")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}: make system")
    with playwright.sync_playwright() as opened:
        found = opened.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, viewer: Viewer) -> Iterator[Any]:
    """The page with the first attempt, and a list of what its console complains about."""
    found = browser.new_page(viewport={"width": 1360, "height": 860})
    found.set_default_timeout(WAIT_MS)
    found.complaints = []
    found.on("console", lambda message: found.complaints.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: found.complaints.append(str(error)))
    start = json.dumps({"run": 0, "id": viewer.ids["right"], "filters": ""})
    viewer.ask(f"{urlsplit(viewer.address).path}place", "POST", start, Content_Type="application/json")
    found.goto(viewer.address)
    found.wait_for_selector("body[data-ready]")
    to(found, 1)
    yield found
    found.close()


def position(page: Any) -> str:
    return str(page.locator("#position").text_content())


def until(page: Any, text: str, selector: str = "#trace") -> None:
    """Waits until an element holds a text."""
    page.locator(selector, has_text=text).first.wait_for()


def to(page: Any, number: int) -> None:
    """Goes to the attempt with this number, with the keys."""
    at = int(position(page).split()[0])
    for _ in range(abs(number - at)):
        page.keyboard.press("j" if number > at else "k")
    until(page, f"{number} of", "#position")


def test_nobody_without_the_token_sees_anything(viewer: Viewer) -> None:
    root = urlsplit(viewer.address).path
    token = root.strip("/")
    assert len(token) >= 32
    for path in (
        "/",
        "/list",
        "/index.html",
        "/main.js",
        "/x/list",
        f"/{token[:-1]}/list",
        f"/{token}x/list",
        f"//{token}/",
    ):
        assert viewer.ask(path)[0] == 403, path
    assert viewer.ask(f"{root}list")[0] == 200
    assert viewer.ask(f"{root}../../../etc/passwd")[0] in (403, 404)


def test_a_page_of_the_web_that_names_this_machine_is_refused(viewer: Viewer) -> None:
    root = urlsplit(viewer.address).path
    assert viewer.ask(f"{root}list", Host="evil.example:80")[0] == 403
    assert viewer.ask(f"{root}list", Host="127.0.0.1.evil.example")[0] == 403
    assert viewer.ask(f"{root}list", Origin="http://evil.example")[0] == 403
    body = json.dumps({"run": 0, "id": viewer.ids["wrong"], "outcome": "right"})
    assert viewer.ask(f"{root}mark", "POST", body, Content_Type="text/plain")[0] == 415
    assert viewer.ask(f"{root}mark", "POST", "[1]", Content_Type="application/json")[0] == 400
    for bad in ({"outcome": "maybe"}, {"id": 10**30}, {"run": 7}, {"id": viewer.ids["failed"]}):
        body = json.dumps({"run": 0, "id": viewer.ids["wrong"], "outcome": "right"} | bad)
        assert viewer.ask(f"{root}mark", "POST", body, Content_Type="application/json")[0] == 400, bad
    assert viewer.ask(f"{root}attempt/0/999")[0] == 404


def test_keys_go_through_the_attempts_and_fold_the_chain(page: Any, viewer: Viewer) -> None:
    assert position(page) == "1 of 8"
    page.keyboard.press("k")
    until(page, "this is the first one", "#said")
    to(page, 4)
    until(page, "12 steps")
    assert page.locator(".steps .folded").count() == 12
    page.keyboard.press("o")
    assert page.locator(".steps .folded").count() == 0
    page.locator(".steps .number").nth(2).click()
    assert page.locator(".steps .folded").count() == 1
    page.keyboard.press("j")
    until(page, "these 2 steps repeat 8 more times")
    until(page, "it was cut at its token limit")
    page.keyboard.press("j")
    until(page, "says “")
    assert "reference answer says 42" in " ".join(page.locator("#trace mark").all_text_contents()).lower()
    to(page, 8)
    until(page, "the line was cut")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    assert position(page) == "8 of 8"
    assert page.complaints == []


def test_the_viewer_opens_where_one_stopped(page: Any, viewer: Viewer, browser: Any) -> None:
    to(page, 5)
    page.wait_for_timeout(800)
    again = browser.new_page()
    again.goto(viewer.address)
    again.wait_for_selector("body[data-ready]")
    assert position(again) == "5 of 8"
    again.close()


def test_marks_and_notes_become_verdicts_and_unsure_takes_them_back(page: Any, viewer: Viewer) -> None:
    to(page, 2)
    until(page, "it was found wrong")
    page.keyboard.press("1")
    until(page, "marked right")
    until(page, "accepted", ".became")
    page.keyboard.press("n")
    page.keyboard.type("the price <b>was</b> misread")
    page.keyboard.press("Enter")
    until(page, "the price <b>was</b> misread", ".my-note")
    until(page, "human 1: right: the price <b>was</b> misread", ".side")
    page.keyboard.press("n")
    page.keyboard.type("dropped")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    until(page, "marked wrong", "#said")
    page.keyboard.press("3")
    until(page, "marked unsure", "#said")
    until(page, "rejected", ".became")
    with Store.open(viewer.url, write=False) as store:
        story = store.one_story(viewer.ids["wrong"])
    assert story is not None
    told = [(v.verdict.outcome.value, v.verdict.detail) for v in story[1].verdicts if v.verdict.check == "human"]
    note = "the price <b>was</b> misread"
    assert told == [("right", ""), ("right", note), ("wrong", note), ("unsure", note)]
    assert page.locator("#tally").text_content() == "0 right0 wrong1 unsure"


def test_a_mark_waits_while_another_process_writes_and_is_taken_in_later(page: Any, viewer: Viewer) -> None:
    to(page, 2)
    to(page, 1)
    with Store.open(viewer.url):
        page.keyboard.press("2")  # at once: the key is meant for the attempt that the position names
        until(page, "waits for the process that is writing")
        until(page, "accepted", ".became")
        page.wait_for_timeout(800)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        until(page, "marked wrong")
    page.keyboard.press("3")
    until(page, "marked unsure", ".mark")
    page.locator(".mark small").wait_for(state="detached")
    with Store.open(viewer.url, write=False) as store:
        assert store.marks([viewer.ids["right"]])[viewer.ids["right"]].outcome.value == "unsure"


def test_filters_leave_what_fits_and_order_it(page: Any, viewer: Viewer) -> None:
    page.keyboard.press("f")
    page.select_option("select[name=standing]", "rejected")
    until(page, "of 2", "#position")
    page.select_option("select[name=reason]", "truncated")
    until(page, "1 of 1", "#position")
    assert "rejected · truncated" in str(page.locator("#chosen").text_content())
    page.click("#filters .clear")
    until(page, "of 8", "#position")
    page.select_option("select[name=domain]", "arithmetic")
    until(page, "of 3", "#position")
    page.fill("input[name=least_cost]", "0.005")
    page.keyboard.press("Enter")
    until(page, "1 of 1", "#position")
    page.click("#filters .clear")
    page.check("input[name=disagree]")
    until(page, "1 of 1", "#position")
    until(page, "judge says RIGHT")
    page.click("#filters .clear")
    page.select_option("select[name=order]", "dearest")
    until(page, "of 8", "#position")
    page.keyboard.press("Escape")
    assert not page.locator("#filters").is_visible()
    page.keyboard.press("d")
    until(page, "judge says RIGHT")
    assert position(page) == "1 of 8"
    page.keyboard.press("d")
    until(page, "12 is 12")


def test_siblings_stand_side_by_side_from_where_they_part(page: Any, viewer: Viewer) -> None:
    page.keyboard.press("s")
    until(page, "2 steps are the same in both")
    assert page.locator(".column").count() == 2
    assert page.locator(".column .common").all_text_contents() == ["She pays with $20"] * 2
    assert page.locator(".column .parted").first.text_content() == ", so she gets back $20 − $8 = $12."
    page.keyboard.press("s")
    until(page, "4 steps are the same in both")
    page.keyboard.press("Escape")
    until(page, "Chain")
    assert page.locator(".column").count() == 0


def test_a_search_finds_words_in_questions_and_chains(page: Any, viewer: Viewer) -> None:
    page.keyboard.press("/")
    page.keyboard.type("REFERENCE answer")
    page.keyboard.press("Enter")
    until(page, "1 of 1", "#position")
    until(page, "What is 40 + 2?")
    page.keyboard.press("Escape")
    until(page, "of 8", "#position")
    page.keyboard.press("/")
    page.keyboard.type("no such words")
    page.keyboard.press("Enter")
    until(page, "nothing has “no such words”", "#said")
    until(page, "none", "#position")


def test_a_hostile_trace_shows_as_text_and_runs_nothing(page: Any, viewer: Viewer) -> None:
    to(page, 7)
    until(page, "window.owned = 7</script>", "h1")
    until(page, "<script>window.owned = 1</script>", ".steps")
    until(page, "U+202E", ".control")
    page.locator(".more").first.click()
    until(page, "characters are left", ".more")
    page.keyboard.press("s")
    until(page, "there is no answer", ".column")
    assert page.evaluate("globalThis.owned === undefined")
    assert page.locator("#trace :is(script, img, iframe, b.evil)").count() == 0
    assert page.complaints == []
    with pytest.raises(Exception, match="TrustedHTML"):  # the class is the browser driver's
        page.evaluate("document.getElementById('said').innerHTML = '<i>x</i>'")


def test_a_copy_opens_from_a_file(browser: Any, viewer: Viewer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    command = [sys.executable, "-m", "harvest", "view", "--store", viewer.url, "--to", str(copy), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout) == {"attempts": 8, "left_out": 0}
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((copy / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    until(page, "1 of 8", "#position")
    until(page, "Twelve apples are four groups")
    page.keyboard.press("1")
    until(page, "a copy takes no marks", "#said")
    page.keyboard.press("s")
    until(page, "2 steps are the same in both")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("reference answer")
    page.keyboard.press("Enter")
    until(page, "1 of 1", "#position")
    page.keyboard.press("Escape")
    page.close()
    hostile = browser.new_page()
    hostile.goto((copy / "index.html").as_uri())
    hostile.wait_for_selector("body[data-ready]")
    to(hostile, 7)
    until(hostile, "<script>window.owned = 1</script>", ".steps")
    assert hostile.evaluate("globalThis.owned === undefined")
    hostile.close()
    assert complaints == []


def test_nothing_moves_when_the_next_attempt_is_shown(page: Any, viewer: Viewer) -> None:
    def places() -> list[Any]:
        return [page.locator(s).bounding_box() for s in ("#search", "#open-filters", ".keys nav", "#trace .kicker")]

    before = places()
    for number in (2, 3, 4):
        to(page, number)
        assert places() == before
    answer = page.locator("section.answer").bounding_box()
    page.keyboard.press("1")
    until(page, "marked right", ".mark")
    assert page.locator("section.answer").bounding_box() == answer


def faults(page: Any) -> list[tuple[str, str]]:
    """What axe-core finds that keeps people from using the page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(fault["id"], node["html"][:200]) for fault in found for node in fault["nodes"]]


@pytest.mark.parametrize(("width", "scheme"), [(1360, "dark"), (390, "light")])
def test_every_screen_fits_its_window_and_axe_finds_no_fault(
    page: Any, viewer: Viewer, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    for number in (1, 7, 6):
        to(page, number)
        assert page.evaluate(fits), number
    assert faults(page) == []
    for key in ("f", "n", "?"):
        page.keyboard.press(key)
        assert page.evaluate(fits), key
        assert faults(page) == [], key
        page.keyboard.press("Escape")
    to(page, 1)
    page.keyboard.press("s")
    until(page, "2 steps are the same in both")
    assert page.evaluate(fits)
    assert faults(page) == []


def test_on_a_phone_every_key_of_the_footer_can_be_pressed(browser: Any, viewer: Viewer) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(viewer.address)
    page.wait_for_selector("body[data-ready]")
    boxes = [button.bounding_box() for button in page.locator("#keys button").all()]
    assert len(boxes) == 9
    for box in boxes:
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["y"] + box["height"] <= 800
    footer = page.locator("footer").bounding_box()
    assert min(box["y"] for box in boxes) >= footer["y"]
    page.close()
