"""The page in a real browser: a person draws a graph, presses Draw and sees pictures that obey it.

If one of these failed, somebody could not draw a graph by mouse or keyboard, would see pictures of
another graph, or would send a request to another machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sgflux.data.pictures import read_picture
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.models.bundle import recommend_drawing
from sgflux.models.bundle_folder import CONFIG_FILE, find_bundle, read_drawing
from sgflux.settings.drawing import RecommendedDrawing
from sgflux.training.log.run_log import RunLog
from sgflux.training.samples.sampler import sheet_of
from sgflux.web.evaluations import read_rows
from sgflux.web.sketch import MAX_OBJECTS
from tests.helpers.adapters import write_adapter
from tests.helpers.evaluated import make_evaluation

playwright = pytest.importorskip("playwright.sync_api")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"),
]
DRAWN = 300_000  # milliseconds until a picture must be there, on a busy machine
SHOWN = 60_000  # milliseconds until the page must show anything else
playwright.expect.set_options(timeout=SHOWN)
LATE = """
const Plain = WebSocket;
globalThis.WebSocket = class extends Plain {
  set onmessage(receive) { super.onmessage = (message) => setTimeout(() => receive(message), 700); }
};"""
"""Script of a browser to which every answer of the server comes late."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_adapter(folder / "demo" / "training" / "final", "tiny", strength=0.1)
    return folder


def serve(runs: Path, *flags: str, cwd: Path | None = None) -> Iterator[str]:
    """The address of a page in a process of its own, which ends with the fixture."""
    command = [sys.executable, "-m", "sgflux", "page", "--port", "0", "--no-show"]
    arguments = ["--runs", str(runs), *flags]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, cwd=cwd)
    try:
        assert process.stdout is not None
        said = re.search(r"http://\S+", process.stdout.readline())
        assert said is not None
        yield said[0]
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    adapter = runs / "demo" / "training" / "final"
    yield from serve(runs, "--model-id", "tiny", "--adapter", str(adapter))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # Debian's browser cannot make its sandbox as root, as in a container.
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    yield from opened(browser, address)


def opened(browser: Any, address: str, *, script: str = "", **settings: Any) -> Iterator[Any]:
    """A page of a new person, with nothing fetched from elsewhere and no error in its console."""
    context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, **settings})
    context.set_default_timeout(SHOWN)
    page = context.new_page()
    page.add_init_script(script)
    foreign: list[str] = []
    errors: list[str] = []
    own = (address, address.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda one: None if one.url.startswith(own) else foreign.append(one.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
    for tries in range(8):  # the server says its address a moment before it listens
        try:
            page.goto(address)
            break
        except playwright.Error:
            if tries == 7:
                raise
            page.wait_for_timeout(2000)
    page.wait_for_selector(".sg-body:not([inert]) .vue-flow__node")  # it is connected
    yield page
    context.close()
    assert not foreign, "a request to another machine"
    assert not errors


def node(page: Any, label: str) -> Any:
    return page.locator(".vue-flow__node").filter(has_text=re.compile(f"^{re.escape(label)}$"))


def center(locator: Any) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Any, start: Any, end: Any) -> None:
    page.mouse.move(*center(start))
    page.mouse.down()
    page.mouse.move(*center(end), steps=12)
    page.mouse.up()


def fingers(page: Any) -> Callable[..., None]:
    """A function that lays fingers on a page, moves them or lifts them, at a time if one is given.

    A browser that is busy would otherwise see the taps of a double tap too far apart.
    """
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float], at: float | None = None) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        event = {"type": f"touch{kind}", "touchPoints": points}
        session.send(
            "Input.dispatchTouchEvent", event if at is None else {**event, "timestamp": at}
        )

    return touch


def double_tap(page: Any, place: tuple[float, float]) -> None:
    touch, now = fingers(page), time.time()
    for late in (0, 0.15):
        touch("Start", place, at=now + late)
        touch("End", at=now + late + 0.05)


def text_of(page: Any) -> Any:
    return page.get_by_label("As text")


def slider(page: Any, name: str) -> Any:
    return page.get_by_role("slider", name=name).locator("[tabindex]")


def draw(page: Any) -> None:
    before = page.locator(".sg-past").count()
    page.get_by_role("button", name="Draw", exact=True).click()
    playwright.expect(page.locator(".sg-past")).to_have_count(before + 1, timeout=DRAWN)


def source(page: Any, arm: str) -> str:
    return page.locator(f'[data-arm="{arm}"] img').get_attribute("src")


def record(page: Any, arm: str, folder: Path) -> dict[str, Any]:
    """How the downloaded picture of an arm says that it was made."""
    with page.expect_download() as download:
        page.locator(f'[data-arm="{arm}"]').get_by_text("PNG").click()
    path = folder / f"{arm}.png"
    download.value.save_as(path)
    return read_picture(path)[1]


def test_a_graph_drawn_by_mouse_is_the_graph_of_the_pictures(page: Any, tmp_path: Path) -> None:
    expect = playwright.expect
    page.get_by_role("button", name="Clear").click()
    expect(text_of(page)).to_have_value("")
    for name in ("cat", "box", "cat"):
        page.get_by_label("Name of a new object").fill(name)
        page.get_by_role("button", name="Add object").click()
    expect(node(page, "cat#2")).to_be_visible()
    drag(page, node(page, "cat").locator(".sg-dot"), node(page, "box"))
    search = page.get_by_label("Search predicates")
    search.fill("higher")  # an alias of "above"
    expect(page.get_by_role("option")).to_have_count(1)
    search.press("Enter")
    expect(text_of(page)).to_have_value("cat, above, box; (cat#2)")
    node(page, "cat#2").click()
    page.keyboard.press("Delete")
    expect(text_of(page)).to_have_value("cat, above, box")
    page.keyboard.press("Control+z")
    expect(node(page, "cat#2")).to_be_visible()
    page.get_by_role("button", name="Redo").click()
    expect(node(page, "cat#2")).to_have_count(0)

    draw(page)
    expect(page.locator(".sg-panel")).to_have_count(4)
    made = record(page, "graph", tmp_path)
    assert made["graph"] == {"objects": ["cat", "box"], "relationships": [[0, "above", 1]]}
    assert record(page, "roles swapped", tmp_path)["graph"]["relationships"] == [[1, "above", 0]]
    assert record(page, "no graph", tmp_path)["graph"] is None
    assert record(page, "base", tmp_path)["use_adapter"] is False
    assert {record(page, arm, tmp_path)["seed"] for arm in ("base", "graph")} == {0}
    expect(page.locator('[data-arm="graph"] .sg-verdicts')).to_contain_text("cat")

    panel = page.locator('[data-arm="graph"]')
    plain = source(page, "graph")
    panel.locator(".sg-word").first.hover()
    assert source(page, "graph") != plain, "the heat map"
    page.mouse.move(5, 5)
    assert source(page, "graph") == plain

    page.locator(".sg-predicate").click()
    page.get_by_role("button", name="Swap direction").click()
    expect(text_of(page)).to_have_value("(cat); box, above, cat")
    expect(page.get_by_text("keeps the order of the objects in the text")).to_be_visible()
    told, dimmed = page.locator(".sg-told"), page.locator('[data-arm="graph"] img')
    expect(told).to_have_text(re.compile("before you changed the graph"))
    expect(dimmed).to_have_css("opacity", "0.4")
    draw(page)
    expect(told).to_have_text(re.compile("^All four are drawn from the text “a photo of "))
    expect(dimmed).to_have_css("opacity", "1")
    swapped = record(page, "graph", tmp_path)
    assert swapped["graph"]["relationships"] == [[1, "above", 0]]
    assert source(page, "graph") != plain
    pictures = [read_picture(tmp_path / f"{arm}.png")[0] for arm in ("graph", "roles swapped")]
    assert (pictures[0] == pictures[1]).all(), "what was swapped before is the graph now"

    page.locator(".sg-past").last.click()
    expect(text_of(page)).to_have_value("cat, above, box")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_command_of_a_picture_can_be_read_and_copied(
    browser: Any, address: str, width: int
) -> None:
    """It stands in a window of its own, which leaves the pictures as they are."""
    expect = playwright.expect
    for page in opened(browser, address, viewport={"width": width, "height": 844}):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        draw(page)
        panel, window = page.locator('[data-arm="graph"]'), page.locator(".sg-command")
        height = panel.bounding_box()["height"]
        panel.get_by_role("button", name="Command").click()
        code = window.locator("code")
        expect(code).to_contain_text('--graph "dog, above, box"')
        page.wait_for_timeout(500)  # the window has opened
        box = window.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        for one in (window, code):
            assert one.evaluate("(it) => it.scrollWidth <= it.clientWidth"), "every word is in it"
        lines = "(flags) => flags.map((flag) => flag.getClientRects().length)"
        assert set(window.locator(".sg-flag").evaluate_all(lines)) == {1}, "a flag is on one line"
        window.get_by_role("button", name="Copy").click()
        expect(window).to_contain_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == code.text_content()
        page.keyboard.press("Escape")
        expect(window).to_have_count(0)
        assert panel.bounding_box()["height"] == height


def test_a_late_answer_takes_nothing_back(browser: Any, address: str) -> None:
    """A person is faster than the server, whose answer knows nothing of the last changes."""
    expect = playwright.expect
    for page in opened(browser, address, script=LATE):
        for name in ("cat", "cup"):
            page.get_by_label("Name of a new object").fill(name)
            page.get_by_role("button", name="Add object").click()
        drag(page, node(page, "cat").locator(".sg-dot"), node(page, "cup"))
        page.get_by_label("Search predicates").fill("inside")
        expect(text_of(page)).to_have_value(re.compile("cat, .*, cup$"))
        page.wait_for_timeout(1000)  # an answer that comes still later could do harm, too
        page.get_by_label("Search predicates").press("Enter")
        for key in ("Escape", "b"):
            page.locator(".sg-canvas").dblclick(position={"x": 20, "y": 20})
            expect(page.get_by_label("Name of the object")).to_be_focused()
            page.keyboard.press(key)
        expect(page.locator(".vue-flow__node")).to_have_count(5)
        page.keyboard.type("all")
        page.wait_for_timeout(1500)
        page.keyboard.press("Enter")
        expect(text_of(page)).to_have_value("dog, above, box; cat, in, cup; (ball)")
        page.keyboard.press("Control+z")
        expect(node(page, "ball")).to_have_count(0)


def test_nothing_is_done_before_the_browser_is_connected(browser: Any, address: str) -> None:
    """After a reload, an object would be added to the first graph, and the kept one be lost."""
    for page in opened(browser, address, script=LATE):
        text_of(page).fill("cat, on, box")
        playwright.expect(node(page, "cat")).to_be_visible()
        page.reload()
        page.locator(".sg-add input").fill("cup")
        page.locator(".sg-add button").click()
        playwright.expect(text_of(page)).to_have_value("cat, on, box; (cup)")


def test_a_click_in_a_list_that_is_made_again_chooses_what_was_clicked(
    browser: Any, tmp_path: Path
) -> None:
    """The server's list has grown by then, and no row may have moved under the pointer."""
    one, two, new = (tmp_path / name / "final" for name in ("one", "two", "new"))
    write_adapter(one, "tiny", strength=0.1)
    shutil.copytree(one, two)
    for age, folder in enumerate((two, one)):
        os.utime(folder / CONFIG_FILE, (1e9 - age, 1e9 - age))
    for address in serve(tmp_path):
        for page in opened(browser, address, script=LATE):
            field = page.get_by_label("Adapter")
            playwright.expect(field).to_have_value("tiny")
            shutil.copytree(one, new)
            os.utime(new / CONFIG_FILE)
            field.click()
            page.get_by_role("option").filter(has_text=str(one)).click()
            page.wait_for_timeout(3000)  # the answers have come
            playwright.expect(field).to_have_value(str(one))


@pytest.mark.parametrize("key", ["Enter", "Tab"])
def test_a_field_takes_what_is_typed_and_not_a_longer_row_of_its_list(
    browser: Any, tmp_path: Path, key: str
) -> None:
    """The list marks the row that was chosen before, and the row under the pointer."""
    expect = playwright.expect
    one, other = (str(write_adapter(tmp_path / name, "tiny", strength=0.1)) for name in ("a", "ab"))
    for address in serve(tmp_path, "--adapter", other):
        for page in opened(browser, address):
            field, slow = page.get_by_label("Adapter"), {"delay": 30}
            row = page.get_by_role("option").filter(has_text=other)
            for is_pointed_at in (False, True):
                expect(field).to_have_value(other)
                field.press("Control+a")
                field.press_sequentially(one, **slow)
                expect(row).to_be_visible()
                if is_pointed_at:
                    row.hover()
                    page.mouse.move(*center(row))
                page.keyboard.press(key)
                expect(row).to_have_count(0)
                page.wait_for_timeout(500)  # the answer has come
                expect(field).to_have_value(one)
                field.press("Control+a")
                field.press_sequentially(one[:-1], **slow)
                expect(row).to_be_visible()
                page.keyboard.press("ArrowUp")  # to the newer one
                expect(field).to_have_value(other)
                page.keyboard.press(key)
                page.wait_for_timeout(500)


@pytest.mark.parametrize("has_touch", [False, True], ids=["mouse", "touch"])
def test_a_statement_is_made_without_dragging(browser: Any, address: str, has_touch: bool) -> None:
    expect = playwright.expect
    for page in opened(browser, address, has_touch=has_touch, is_mobile=has_touch):
        press = page.touchscreen.tap if has_touch else page.mouse.click
        hint = "Tap an object’s dot" if has_touch else "Drag from an object’s dot"
        expect(page.locator(".sg-status")).to_contain_text(hint)
        press(*center(node(page, "box").locator(".sg-dot")))
        expect(page.locator(".sg-status")).to_contain_text("“box” is related to")
        press(*center(node(page, "dog").locator(".sg-dot")))
        page.get_by_label("Search predicates").fill("is carries the")  # as in a graph's text
        page.keyboard.press("Enter")
        expect(text_of(page)).to_have_value("dog, above, box; box, carrying, dog")
        expect(page.locator(".sg-status")).not_to_contain_text("is related to")
        if has_touch:
            zoom = "document.querySelector('.vue-flow__transformationpane').style.transform"
            before = page.evaluate(zoom)
            double_tap(page, center(node(page, "dog").locator("span")))
            page.get_by_label("Name of the object").fill("cat")
            page.keyboard.press("Enter")
            expect(text_of(page)).to_have_value("cat, above, box; box, carrying, cat")
            area = page.locator(".sg-canvas").bounding_box()
            double_tap(page, (area["x"] + 30, area["y"] + 30))
            page.get_by_label("Name of the object").fill("cup")
            page.keyboard.press("Enter")
            expect(text_of(page)).to_have_value("cat, above, box; box, carrying, cat; (cup)")
            assert page.evaluate(zoom) == before


def test_a_dot_can_be_touched_twice(browser: Any, address: str) -> None:
    """A double tap renames an object, but not at its dot, and a drag may follow a tap at once."""
    expect = playwright.expect
    for page in opened(browser, address, has_touch=True, is_mobile=True):
        touch, dot, dog = fingers(page), node(page, "box").locator(".sg-dot"), node(page, "dog")
        double_tap(page, center(dot))
        expect(page.locator(".sg-status")).to_contain_text("“box” is related to")
        page.wait_for_timeout(600)  # what follows is no third tap
        page.touchscreen.tap(*center(dog.locator("span")))
        expect(text_of(page)).to_have_value(re.compile("^dog, above, box; box, .*, dog$"))
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Undo").click()
        expect(text_of(page)).to_have_value("dog, above, box")

        (x, y), (right, down) = center(dot), center(dog)
        now = time.time()
        touch("Start", (x, y), at=now)
        touch("End", at=now + 0.05)
        touch("Start", (x, y), at=now + 0.15)
        for step in range(1, 11):
            touch("Move", (x + (right - x) * step / 10, y + (down - y) * step / 10))
        touch("End")
        expect(text_of(page)).to_have_value(re.compile("^dog, above, box; box, .*, dog$"))


def test_two_fingers_zoom(browser: Any, address: str) -> None:
    """The second finger comes soon after the first, but it is no second tap of it."""
    for page in opened(browser, address, has_touch=True, is_mobile=True):
        zoom = "document.querySelector('.vue-flow__transformationpane').style.transform"
        area = page.locator(".sg-canvas").bounding_box()
        x, y = area["x"] + 40, area["y"] + area["height"] - 40
        before = page.evaluate(zoom)
        touch = fingers(page)
        touch("Start", (x, y))
        touch("Start", (x, y), (x + 200, y))
        for step in range(1, 6):
            touch("Move", (x, y), (x + 200 - 20 * step, y))
        touch("End")
        after = page.evaluate(zoom)
        scales = [float(re.search(r"scale\(([\d.]+)\)", one)[1]) for one in (before, after)]
        assert scales[1] < 0.8 * scales[0], (before, after)
        assert page.evaluate("visualViewport.scale") == 1, "the page itself is not zoomed"


def test_an_object_that_is_gone_is_related_to_nothing(page: Any) -> None:
    node(page, "dog").focus()
    page.keyboard.press("c")
    playwright.expect(page.locator(".sg-status")).to_contain_text("“dog” is related to")
    page.keyboard.press("Delete")
    playwright.expect(text_of(page)).to_have_value("(box)")
    playwright.expect(page.locator(".sg-status")).not_to_contain_text("is related to")


def test_a_predicate_does_not_hide_its_arrow(page: Any) -> None:
    """Nobody could see which of two objects that stand close together is the subject."""
    text_of(page).fill("dog, playing with, box")
    playwright.expect(page.locator(".sg-predicate")).to_have_text("playing with")
    dog, box = node(page, "dog"), node(page, "box")
    for right, down in ((0, 60), (110, 0), (0, -60), (-110, 0)):
        x, y = center(dog)
        page.mouse.move(*center(box))
        page.mouse.down()
        page.mouse.move(x + right, y + down, steps=6)
        page.mouse.up()
        line, word = page.locator(".sg-line").bounding_box(), page.locator(".sg-predicate")
        (x, y), shown = center(page.locator(".sg-line")), word.bounding_box()
        is_beside = abs(center(word)[0] - x) > shown["width"] / 2
        is_beside |= abs(center(word)[1] - y) > shown["height"] / 2
        assert is_beside or max(line["width"], line["height"]) > 40


COVERED = """() => {
  const boxOf = (element) => element.getBoundingClientRect();
  const [words, objects] = [".sg-predicate", ".vue-flow__node"].map(
    (one) => [...document.querySelectorAll(one)].map((found) => [found.textContent, boxOf(found)]));
  const meet = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const found = words.flatMap(([word, box], i) => [...words.slice(i + 1), ...objects]
    .filter(([, other]) => meet(box, other)).map(([other]) => `${word} and ${other}`));
  const { left, right, top, bottom } = boxOf(document.querySelector(".sg-canvas"));
  for (const [word, box] of words)
    if (box.left < left || box.right > right || box.top < top || box.bottom > bottom)
      found.push(`${word} and the border`);
  for (const line of document.querySelectorAll(".sg-line")) {
    const place = line.getScreenCTM();
    for (let at = 0; at <= line.getTotalLength(); at += 4) {
      const { x, y } = line.getPointAtLength(at).matrixTransform(place);
      for (const [name, box] of objects)
        if (meet({ left: x, right: x, top: y, bottom: y }, box)) found.push(`an arrow and ${name}`);
    }
  }
  return found;
}"""
"""Script that names predicates that cover each other or an object, and arrows behind objects."""


@pytest.mark.parametrize(
    "graph",
    [
        "dog, above, box; dog, touching, box; box, left of, dog; dog, playing with, box",
        "man, riding, horse; dog, left of, horse; dog#2, right of, horse; "
        "man, playing with, dog; man, playing with, dog#2",
        "(cup); (cat); cup, in front of, man; cup, playing with, man; man, touching, cup",
        "a, above, b; a, above, c; a, above, d; b, above, c; b, above, d; c, above, d; "
        "e, playing with, a; e, playing with, d",
        "a, above, b; a, left of, c; a, playing with, d; a, in front of, e; a, touching, f; "
        "b, right of, c; b, under, d; b, carrying, e; c, behind, f; d, on, e; d, holding, f; "
        "e, riding, f",
    ],
    ids=["one pair", "crossing", "one pair upright", "behind an object", "dense"],
)
def test_every_predicate_can_be_read(page: Any, graph: str) -> None:
    """A predicate or an arrow that lies behind something would be a statement that nobody sees."""
    text_of(page).fill(graph)
    statements = len([one for one in graph.split(";") if "(" not in one])
    playwright.expect(page.locator(".sg-predicate")).to_have_count(statements)
    page.wait_for_timeout(500)  # the new objects are measured
    assert page.evaluate(COVERED) == []


def test_what_is_cut_off_a_long_predicate_takes_no_room(page: Any) -> None:
    """The objects would be drawn smaller for the sake of letters that nobody sees."""
    page.get_by_text("More", exact=True).click()
    page.get_by_role("checkbox", name="Accept any word").click()
    sizes = []
    for letters in (40, 90):
        page.get_by_role("button", name="Clear").click()
        playwright.expect(text_of(page)).to_have_value("")
        text_of(page).fill(f"dog, {'m' * letters}, box")
        word = page.locator(".sg-predicate")
        playwright.expect(word).to_have_text("m" * letters)
        page.wait_for_timeout(500)  # the new objects are measured
        sizes.append([node(page, "dog").bounding_box()["width"], word.bounding_box()["width"]])
        assert word.evaluate("(it) => it.scrollWidth > it.clientWidth"), "it is cut"
    assert sizes[0] == pytest.approx(sizes[1])


LAID_OUT = """async () => {
  const { layOut } = await import("sgflux-arrows");
  const box = (x, y, h = 36) => ({ x, y, w: 90, h });
  const meet = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  const found = [];
  const check = (name, boxes, ...arrows) => {
    const named = arrows.map(
      ([source, target, width = 60], id) => ({ id, source, target, width }));
    const routes = Object.values(layOut(boxes, named));
    const curves = routes.map(({ path }) => {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("d", path);
      const length = line.getTotalLength();
      return Array.from({ length: 101 }, (_, i) => line.getPointAtLength((length * i) / 100));
    });
    const isOn = (curve, one) => curve.some(({ x, y }) => meet({ x, y, w: 0, h: 0 }, one));
    routes.forEach((route, i) => {
      if (Object.values(boxes).some((one) => isOn(curves[i], one))) found.push(`${name}: behind`);
      if (Object.values(boxes).some((one) => meet(route.box, one))) found.push(`${name}: on one`);
      routes.forEach((other, j) => {
        if (i < j && meet(route.box, other.box)) found.push(`${name}: predicates`);
        if (i !== j && isOn(curves[j], route.box)) found.push(`${name}: on another arrow`);
      });
    });
    return curves.map((curve) => curve[50]);
  };
  const [a, b, c] = [box(0, 0), box(400, 0), box(200, 0)];
  check("around", { a, b, c }, ["a", "b"]);
  for (const d of [box(200, 200), box(200, -200)]) {
    const [middle] = check("away from another arrow", { a, b, c, d }, ["a", "b"], ["c", "d"]);
    if (middle.y > 18 === d.y > 18) found.push("two arrows cross");
  }
  check("two around", { a, b, c: box(200, -12, 60) }, ["a", "b"], ["a", "b"]);
  const [there, back] = check("there and back", { a, b }, ["a", "b"], ["b", "a"]);
  if (Math.abs(there.y - back.y) < 24) found.push("there and back are one");
  const tight = { a: box(0, 150), b: box(150, 150), c: box(400, 150), d: box(300, 100) };
  check("two around by one side", tight, ["c", "b"], ["c", "b"]);
  const long = { a: box(300, 100), b: box(60, 0), c: box(300, 200), d: box(300, 150) };
  check("the short one last", long, ["b", "c"], ["b", "d"]);
  const beside = { a: box(200, 200), b: box(0, 200), c: box(400, 100), d: box(60, 100) };
  check("beside", beside, ["d", "a", 100], ["b", "d", 100]);
  check("wide", { a, b: box(0, 200) }, ["a", "b", 100], ["b", "a", 100], ["a", "b", 100]);
  check("crossing", { a, b, c: box(0, 200), d: box(400, 200) }, ["a", "d", 120], ["c", "b", 120]);
  const upright = { a: box(200, 100), b: box(200, 150), c: box(50, 50), d: box(350, 50) };
  const both = [["b", "a"], ["a", "b"]];
  check("made room for later", upright, ...both, ["b", "c", 100], ["a", "c"]);
  return found;
}"""
"""Script that lays out arrows, and names what cannot be read."""

DENSE = """async () => {
  const { layOut } = await import("sgflux-arrows");
  let seed = 1;
  const random = (below) => ((seed = (seed * 16807) % 2147483647) >> 8) % below;
  const meet = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  let covered = 0;
  for (let graph = 0; graph < 100; graph++) {
    const boxes = [0, 1, 2, 3, 4, 5].map(
      (i) => ({ x: 230 * (i % 2), y: 95 * (i >> 1) + 40 * (i % 2), w: 70 + random(30), h: 36 }));
    const arrows = {};
    while (Object.keys(arrows).length < 12) {
      const [source, target, width] = [random(6), random(6), 60 + random(50)];
      if (source !== target)
        arrows[`${source} ${target}`] ??= { id: `${source} ${target}`, source, target, width };
    }
    const words = Object.values(layOut({ ...boxes }, Object.values(arrows))).map(({ box }) => box);
    words.forEach((word, i) => {
      covered += [...boxes, ...words.slice(i + 1)].filter((other) => meet(word, other)).length;
    });
  }
  return covered;
}"""
"""Script that counts what lies upon each other in 100 graphs of 6 objects and 12 statements."""


def test_arrows_and_predicates_make_room_for_each_other(page: Any) -> None:
    assert page.evaluate(LAID_OUT) == []
    assert page.evaluate(DENSE) < 45, "most of so many predicates find room"


@pytest.mark.parametrize("way", ["mouse", "touch", "keyboard"])
def test_an_object_is_deleted_where_it_stands(browser: Any, address: str, way: str) -> None:
    expect, has_touch = playwright.expect, way == "touch"
    for page in opened(browser, address, has_touch=has_touch, is_mobile=has_touch):
        delete = node(page, "dog").get_by_role("button", name="Delete object dog")
        expect(delete).to_be_hidden()
        if way == "keyboard":
            node(page, "dog").focus()
            page.keyboard.press("Tab")
            expect(delete).to_be_focused()
            page.keyboard.press("Enter")
        else:
            press = page.touchscreen.tap if has_touch else page.mouse.click
            press(*center(node(page, "dog").locator("span")))
            expect(delete).to_be_visible()
            x, y = center(delete)
            beside = 0.75 * delete.bounding_box()["width"] if has_touch else 0
            place = (x - beside, y)  # a finger need not meet the small circle
            # Chromium moves a tap to the nearest button, so that the tap alone would not show it.
            found = "(at) => document.elementFromPoint(...at).matches('.sg-delete')"
            assert page.evaluate(found, list(place))
            press(*place)
            press(*place)  # who clicks once too often makes no new object
        expect(text_of(page)).to_have_value("(box)")
        expect(page.locator(".vue-flow__node")).to_have_count(1)
        page.keyboard.press("Control+z")
        expect(text_of(page)).to_have_value("dog, above, box")


def test_one_object_too_many_is_not_shown(page: Any) -> None:
    """The editor would show another graph than the one that is drawn."""
    expect = playwright.expect
    text_of(page).fill("; ".join(f"(dog#{number})" for number in range(1, MAX_OBJECTS + 1)))
    expect(page.locator(".vue-flow__node")).to_have_count(MAX_OBJECTS)
    page.get_by_label("Name of a new object").fill("cat")
    page.get_by_role("button", name="Add object").click()
    expect(page.locator(".sg-error")).to_contain_text(f"at most {MAX_OBJECTS} objects")
    expect(page.locator(".vue-flow__node")).to_have_count(MAX_OBJECTS)


def test_the_page_is_used_by_keyboard_alone(page: Any) -> None:
    expect = playwright.expect
    status = page.locator(".sg-status")
    expect(status).to_contain_text("Drag from an object’s dot to another object")
    expect(status).to_contain_text("the word on an arrow to change, swap or delete it")
    node(page, "dog").focus()
    expect(status).to_contain_text("Enter renames, C relates")
    page.keyboard.press("F2")
    expect(page.get_by_label("Name of the object")).to_be_focused()
    page.keyboard.type("horse")
    page.keyboard.press("Enter")
    expect(text_of(page)).to_have_value("horse, above, box")
    search, label = page.get_by_label("Search predicates"), page.locator("[data-edge]:focus")
    for is_twice in (True, False):
        node(page, "horse").focus()
        page.keyboard.press("c")
        node(page, "box").focus()
        page.keyboard.press("Enter")
        expect(search).to_be_focused()
        expect(text_of(page)).to_have_value("horse, above, box; horse, around/near, box")
        if is_twice:  # a statement that is there already
            page.keyboard.type("above")
            page.keyboard.press("Enter")
            expect(text_of(page)).to_have_value("horse, above, box")
    page.keyboard.type("o")
    page.keyboard.press("ArrowDown")
    page.keyboard.type("n")  # and Enter takes the first match again, which begins with "on"
    page.keyboard.press("Enter")
    expect(text_of(page)).to_have_value("horse, above, box; horse, on, box")
    expect(label).to_have_text("on")
    page.keyboard.press("Enter")
    expect(search).to_be_focused()
    for _ in range(len(DEFAULT_VOCABULARY.names) + 1):
        page.keyboard.press("ArrowDown")
    chosen = page.get_by_role("option", selected=True)
    expect(chosen).to_have_text(re.compile(f"^{DEFAULT_VOCABULARY.names[-1]}"))
    expect(chosen).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(label).to_have_text("on")
    page.keyboard.press("Enter")
    expect(search).to_be_focused()
    page.keyboard.press("Enter")  # takes what stands there already
    expect(label).to_have_text("on")
    page.keyboard.press("s")
    expect(text_of(page)).to_have_value("horse, above, box; box, on, horse")
    expect(label).to_have_text("on")
    page.keyboard.press("Delete")
    expect(text_of(page)).to_have_value("horse, above, box")
    reached = set()
    page.get_by_label("Name of a new object").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.textContent.trim()"))
    assert {"Draw", "Random", "Clear"} <= reached
    page.get_by_role("button", name="Draw", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator('[data-arm="graph"] a')).to_be_visible(timeout=DRAWN)


def test_wrong_input_is_named_at_its_place(page: Any) -> None:
    expect = playwright.expect
    fields = {
        "As text": ("dog, abov, box", "unknown predicate 'abov'; nearest known: 'above'"),
        "Adapter": ("no/such/folder", "is no adapter bundle"),
        "Base model": (
            "x" * 5000,
            re.compile("^x{9,999} … x+: cannot be read: File name too long"),
        ),
        "Seed": ("", "Give a whole number from 0"),
    }
    for label, (value, message) in fields.items():
        field = page.get_by_label(label).first
        kept = field.input_value()
        field.fill(value)
        field.press("Enter")
        place = page.locator(".q-field").filter(has=page.get_by_label(label)).first
        expect(place.get_by_role("alert")).to_contain_text(message)
        assert place.evaluate("(it) => it.scrollWidth <= it.clientWidth"), "the message is wrapped"
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.locator(".sg-panel")).to_have_count(0)
        field.fill(kept)
        field.press("Enter")
        expect(place.get_by_role("alert")).to_have_count(0)
    page.get_by_text("As JSON").click()
    json_field = page.get_by_role("textbox", name="JSON")
    json_field.fill('{"objects": ["cat"], "relationships": [[0, "on", 3]]}')
    expect(page.get_by_text("the object index 3 is not among the 1 objects")).to_be_visible()
    json_field.fill(json.dumps({"objects": ["cat", "box"], "relationships": [[0, "on", 1]]}))
    expect(text_of(page)).to_have_value("cat, on, box")
    expect(node(page, "cat")).to_be_visible()
    relations = [[0, "above", 1], [1, "under", 0], [0, "on", 0]]
    json_field.fill(json.dumps({"objects": ["cat", "box"], "relationships": relations}))
    remark = page.locator(".sg-message").filter(has_text="merged")
    expect(remark).to_have_text(re.compile("^1 repeated statement .* of an object to itself"))
    text_of(page).fill("cat, on, box")
    expect(remark).to_have_count(0)


def test_two_people_and_two_tabs_of_one_do_not_see_each_other(
    page: Any, browser: Any, address: str
) -> None:
    expect = playwright.expect
    for other in opened(browser, address):
        text_of(page).fill("cat, riding, dog")
        expect(node(page, "cat")).to_be_visible()
        expect(text_of(other)).to_have_value("dog, above, box")
        expect(node(other, "cat")).to_have_count(0)
        drawing = (page, other)
        for one in drawing:
            one.get_by_role("button", name="Draw", exact=True).click()
        for one, triple in zip(drawing, ("cat, riding, dog", "dog, above, box"), strict=True):
            expect(one.locator(".sg-past")).to_have_text(re.compile(triple), timeout=DRAWN)
            image = one.locator('[data-arm="graph"] img')
            expect(image).to_have_attribute("alt", re.compile(triple))
    tab = page.context.new_page()
    tab.goto(address)
    expect(text_of(tab)).to_have_value("dog, above, box")


def test_a_reload_keeps_graph_and_settings(page: Any) -> None:
    """Even in the middle of a drawing."""
    expect = playwright.expect
    text_of(page).fill("cat, on, box; (cat#2)")
    expect(node(page, "cat#2")).to_be_visible()
    before = node(page, "cat#2").bounding_box()
    node(page, "cat#2").click()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".sg-panel")).to_have_count(4, timeout=DRAWN)
    place = node(page, "cat#2").bounding_box()
    assert place["x"] > before["x"] + 30, "it was moved"
    page.reload()
    expect(text_of(page)).to_have_value("cat, on, box; (cat#2)")
    expect(page.get_by_label("Seed")).to_have_value("7")
    expect(page.locator(".vue-flow__node")).to_have_count(3)
    assert node(page, "cat#2").bounding_box() == pytest.approx(place, abs=2)
    draw(page)
    expect(page.locator(".sg-past")).to_contain_text("seed 7")


TWICE = """(button) => {
  button.click();
  const seed = document.querySelector('[aria-label="Seed"]');
  seed.value = "5";
  seed.dispatchEvent(new Event("input", { bubbles: true }));
  button.click();
}"""
"""Script that clicks twice before the browser knows of the first drawing, the second time with
another seed."""


def test_a_drawing_is_not_lost_by_what_is_clicked_meanwhile(browser: Any, address: str) -> None:
    """Neither by a second click on Draw nor by the history."""
    expect = playwright.expect
    for page in opened(browser, address, script=LATE):
        button = page.get_by_role("button", name="Draw", exact=True)
        button.evaluate(TWICE)
        expect(page.locator(".sg-past")).to_have_text([re.compile("seed 0")], timeout=DRAWN)
        text_of(page).fill("cat, on, box")
        expect(node(page, "cat")).to_be_visible()
        button.click()
        expect(button).to_be_disabled()
        page.locator(".sg-past").click()
        expect(text_of(page)).to_have_value("dog, above, box")
        drawn = [re.compile("^cat, on, box.*seed 5"), re.compile("^dog, above, box.*seed 0")]
        expect(page.locator(".sg-past")).to_have_text(drawn, timeout=DRAWN)
        image = page.locator('[data-arm="graph"] img')
        expect(image).to_have_attribute("alt", re.compile("cat, on, box"))
        page.locator(".sg-past").first.click()  # it is of the graph that was there at its beginning
        expect(text_of(page)).to_have_value("cat, on, box")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_has_everything_in_one_column(
    browser: Any, address: str, scheme: str
) -> None:
    small = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    for page in opened(browser, address, **small):
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) <= 0
        parts = (".sg-editor", ".sg-right", ".sg-settings")
        tops = [page.locator(part).bounding_box()["y"] for part in parts]
        assert tops == sorted(tops), "the graph, what is drawn of it, and then the settings"
        button = page.get_by_role("button", name="Draw", exact=True).bounding_box()
        assert button["y"] + button["height"] <= small["viewport"]["height"], "without scrolling"
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness = sum(map(int, re.findall(r"\d+", color)[:3])) / 3
        assert (lightness < 60) == (scheme == "dark")


def test_a_window_that_is_narrowed_still_shows_the_whole_graph(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    canvas = page.locator(".sg-canvas").bounding_box()
    inside = """(right) => [...document.querySelectorAll(".vue-flow__node")].every(
        (node) => node.getBoundingClientRect().right <= right)"""
    page.wait_for_function(inside, arg=canvas["x"] + canvas["width"])


def test_another_graph_is_shown_wherever_a_person_has_looked(page: Any) -> None:
    """The first graph is out of sight, and the objects of the other one have the same ids."""
    canvas = page.locator(".sg-canvas").bounding_box()
    playwright.expect(node(page, "dog")).to_be_visible()
    page.mouse.move(canvas["x"] + 30, canvas["y"] + 30)
    page.mouse.down()
    page.mouse.move(canvas["x"] + 30, canvas["y"] + 700, steps=5)
    page.mouse.up()
    assert node(page, "dog").bounding_box()["y"] > canvas["y"] + canvas["height"]
    text_of(page).fill("cat, on, cup")
    playwright.expect(node(page, "cup")).to_be_visible()
    inside = """([top, bottom]) => [...document.querySelectorAll(".vue-flow__node")].every((node) =>
        node.getBoundingClientRect().top >= top && node.getBoundingClientRect().bottom <= bottom)"""
    page.wait_for_function(inside, arg=[canvas["y"], canvas["y"] + canvas["height"]])


def test_the_sliders_begin_with_what_the_adapter_recommends(browser: Any, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "final", "tiny", strength=0.1)
    recommend_drawing(folder, RecommendedDrawing(steps=40, graph_scale=1.5))
    other = write_adapter(tmp_path / "other", "tiny", strength=0.1)
    for address in serve(tmp_path, "--adapter", str(folder)):
        for page in opened(browser, address):
            expect, shown = playwright.expect, page.locator(".sg-slider output")
            expect(shown).to_have_text(["40", "1.5"])
            page.get_by_label("Adapter").fill(str(other))
            page.get_by_label("Adapter").press("Enter")
            expect(shown).to_have_text(["8", "1"])


def test_an_adapter_that_is_gone_is_named_at_its_place(browser: Any, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "runs" / "final", "tiny", strength=0.1)
    for address in serve(tmp_path / "runs", "--adapter", str(folder)):
        for page in opened(browser, address):
            shutil.rmtree(folder)
            page.get_by_role("button", name="Draw", exact=True).click()
            place = page.locator(".q-field").filter(has=page.get_by_label("Adapter"))
            playwright.expect(place.get_by_role("alert")).to_contain_text("is no adapter bundle")
            playwright.expect(page.locator(".sg-panel")).to_have_count(0)


def test_the_page_begins_with_the_bundled_adapter(browser: Any, tmp_path: Path) -> None:
    write_adapter(tmp_path / "runs" / "mine" / "final", "tiny", strength=0.1)
    drawing = read_drawing(find_bundle("tiny", allow_download=False))
    for address in serve(tmp_path / "runs", cwd=tmp_path):
        for page in opened(browser, address):
            expect = playwright.expect
            expect(page.get_by_label("Adapter")).to_have_value("tiny")
            shown = [f"{value:g}" for value in (drawing.steps, drawing.graph_scale)]
            expect(page.locator(".sg-slider output")).to_have_text(shown)
            page.get_by_label("Adapter").click()
            expect(page.get_by_role("option")).to_have_text(
                ["tiny", re.compile("mine/final$"), re.compile("none")]
            )
            page.get_by_role("option").first.click()
            page.get_by_role("button", name="Draw", exact=True).click()
            expect(page.locator(".sg-panel a")).to_have_count(4, timeout=DRAWN)


def test_without_an_adapter_the_page_says_how_to_get_one(browser: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for folder in (runs, tmp_path / "tiny"):
        folder.mkdir()
    (tmp_path / "tiny" / CONFIG_FILE).touch()  # has the name of the package's
    for address in serve(runs, cwd=tmp_path):
        for page in opened(browser, address):
            expect = playwright.expect
            expect(page.get_by_text("sgflux demo")).to_be_visible()
            page.get_by_role("button", name="Draw", exact=True).click()
            expect(page.locator(".sg-panel a")).to_have_count(1, timeout=DRAWN)
            expect(page.locator(".sg-panel")).to_have_attribute("data-arm", "base")
            expect(page.locator(".sg-told")).to_contain_text("The base model reads no graph.")
            write_adapter(runs / "new" / "final", "tiny", strength=0.1)
            page.get_by_label("Adapter").click()
            expect(page.get_by_role("option").last).to_have_text(re.compile("new/final$"))
            expect(page.get_by_text("sgflux demo")).to_be_hidden()


def test_names_are_text_and_no_markup(page: Any) -> None:
    """An image of an object's name would be asked for, and its absence be an error."""
    name = f"<img src=x onerror=alert({'1' * 99})>"
    text_of(page).fill(f"{name}, above, box")
    playwright.expect(node(page, name)).to_be_visible()
    assert node(page, name).bounding_box()["width"] < 250, "a long name is cut"
    page.get_by_role("button", name="Draw", exact=True).click()
    shown = page.locator(".sg-error, .sg-notes").first
    playwright.expect(shown).to_contain_text("img src=x", timeout=DRAWN)
    assert shown.evaluate("(it) => it.scrollWidth <= it.clientWidth"), "the message is wrapped"


def test_the_history_repeats_a_graph_of_any_words(page: Any) -> None:
    """What no judge can read is said once, and not below every picture."""
    expect = playwright.expect
    page.get_by_text("More", exact=True).click()
    words = page.get_by_role("checkbox", name="Accept any word")
    words.click()
    text_of(page).fill("unicorn, above, box")
    expect(node(page, "unicorn")).to_be_visible()
    page.locator(".sg-predicate").click()
    page.get_by_label("Search predicates").fill("kissing")
    page.get_by_role("option").filter(has_text="any word").click()
    expect(text_of(page)).to_have_value("unicorn, kissing, box")
    page.get_by_label("Seed").fill("3")
    slider(page, "Steps").press("ArrowRight")
    expect(page.locator(".sg-slider output")).to_have_text(["9", "1"])
    draw(page)
    expect(page.get_by_text("does not know the object 'unicorn'")).to_have_count(1)
    expect(page.locator(".sg-verdicts small")).to_have_text(["not judged"] * 4)
    text_of(page).fill("dog, on, box")
    words.click()
    page.get_by_label("Seed").fill("4")
    slider(page, "Steps").press("ArrowLeft")
    slider(page, "Graph scale").press("ArrowLeft")
    page.locator(".sg-past").first.click()
    expect(text_of(page)).to_have_value("unicorn, kissing, box")
    expect(page.get_by_label("Seed")).to_have_value("3")
    expect(page.locator(".sg-slider output")).to_have_text(["9", "1"])
    expect(words).to_be_checked()
    expect(page.locator(".sg-error")).to_have_count(0)
    expect(page.get_by_text("does not know the object 'unicorn'")).to_have_count(1)


CONTRASTS = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => color.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const mix = (front, back, share) => back.map((c, i) => share * front[i] + (1 - share) * c);
  const over = (front, back) => mix(front, back, front[3] ?? 1);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor);
    return over(color, behind(element.parentElement));
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const isShown = texts.currentNode.data.trim() && element.checkVisibility();
    if (!isShown || element.closest(":disabled, .q-icon")) continue;
    const back = behind(element);
    const [a, b] = [light(over(parse(getComputedStyle(element).color), back)), light(back)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) low.push([texts.currentNode.data.trim(), contrast]);
  }
  return low;
}"""
"""Script that returns the visible texts with less contrast than WCAG 2 asks of small text."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_told_from_its_background(
    browser: Any, address: str, scheme: str
) -> None:
    for page in opened(browser, address, color_scheme=scheme):
        text_of(page).fill("dog")
        playwright.expect(page.get_by_role("alert")).to_contain_text("expected")
        page.wait_for_timeout(600)  # colours come to rest
        assert page.evaluate(CONTRASTS) == []


def test_a_training_is_watched_while_it_goes_on(browser: Any, tmp_path: Path) -> None:
    def step(number: int) -> None:
        row = {"step": number, "loss": 0.5, "lr": 1e-4, "steps_per_second": 2.0}
        log.train(row, max_steps=100)

    def begin(name: str) -> RunLog:
        log = RunLog(silent=False)
        (tmp_path / name).mkdir()
        log.open(tmp_path / name, step=0, max_steps=100)
        return log

    for address in serve(tmp_path):
        for page in opened(browser, address):
            page.get_by_role("tab", name="Training").click()
            playwright.expect(page.get_by_text("No training was found")).to_be_visible()
            playwright.expect(page.locator(".sg-chart").first).to_be_hidden()
            log = begin("mine")
            step(10)
            facts = page.locator(".sg-facts")
            playwright.expect(facts).to_contain_text("10 of 100")
            playwright.expect(page.locator(".sg-chart canvas").first).to_be_visible()
            step(20)
            log.validation({"step": 20, "loss": 0.9, "ranking_accuracy": 0.75})
            playwright.expect(facts).to_contain_text("20 of 100")
            playwright.expect(facts).to_contain_text("75.0 %")
            playwright.expect(facts).to_contain_text("40 s")
            log.close()
            field = page.get_by_label("Training run")
            place = page.locator(".q-field").filter(has=field)
            metrics = tmp_path / "mine" / "metrics.jsonl"
            kept = metrics.read_text(encoding="utf-8")
            metrics.write_text(kept + "nonsense\n", encoding="utf-8")
            playwright.expect(place.get_by_role("alert")).to_contain_text("jsonl: is damaged")
            playwright.expect(facts).to_contain_text("20 of 100")
            metrics.write_text(kept, encoding="utf-8")
            playwright.expect(place.get_by_role("alert")).to_have_count(0)
            (tmp_path / "other").mkdir()
            field.fill(str(tmp_path / "other"))
            field.press("Enter")
            playwright.expect(place.get_by_role("alert")).to_contain_text("is no training run")
            playwright.expect(page.locator(".sg-chart").first).to_be_hidden()
            field.fill(str(tmp_path / "mine"))
            field.press("Enter")
            playwright.expect(place.get_by_role("alert")).to_have_count(0)
            (tmp_path / "mine" / sheet_of(20)).parent.mkdir()
            Image.new("RGB", (8, 8)).save(tmp_path / "mine" / sheet_of(20))
            playwright.expect(page.locator(".sg-sheet")).to_be_visible()
            begin("later").say("the run begins")
            page.get_by_label("Training run").click()
            page.get_by_role("option").filter(has_text="later").click()
            playwright.expect(facts).to_contain_text("not begun")
            playwright.expect(page.locator(".sg-sheet")).to_have_count(0)


def test_a_row_of_an_evaluation_opens_in_the_editor(browser: Any, tmp_path: Path) -> None:
    for address in serve(tmp_path):
        for page in opened(browser, address):
            first = read_rows(make_evaluation(tmp_path))[0]  # after the page was loaded
            page.get_by_role("tab", name="Evaluation").click()
            page.locator(".sg-link").first.click()
            playwright.expect(text_of(page)).to_have_value(first.graph.to_text())
            playwright.expect(page.get_by_label("Seed")).to_have_value(str(first.seed))
            page.get_by_role("button", name="Clear").click()
            playwright.expect(page.get_by_label("Seed")).to_have_value("0")


def test_an_evaluation_that_cannot_be_shown_says_why(browser: Any, tmp_path: Path) -> None:
    good, bad = (make_evaluation(tmp_path / name) for name in ("good", "bad"))
    lines = (good / "results.jsonl").read_text(encoding="utf-8").splitlines()
    graph = {"objects": ["dog"] * (MAX_OBJECTS + 1), "relationships": []}
    large = {**json.loads(lines[0]), "row": 99, "arm": "graph", "repeat": 0, "graph": graph}
    (good / "results.jsonl").write_text("\n".join([*lines, json.dumps(large)]), encoding="utf-8")
    (bad / "results.jsonl").write_text("nonsense", encoding="utf-8")
    for age, folder in enumerate((bad, good)):
        os.utime(folder / "evaluation_results.json", (1e9 - age, 1e9 - age))
    for address in serve(tmp_path):
        for page in opened(browser, address):
            expect = playwright.expect
            page.get_by_role("tab", name="Evaluation").click()
            field = page.get_by_label("Evaluation (its")
            place = page.locator(".q-field").filter(has=field)
            expect(place.get_by_role("alert")).to_contain_text("results.jsonl:1: is damaged")
            expect(page.locator(".sg-rows")).to_have_count(0)
            field.fill(str(good))
            field.press("Enter")
            expect(place.get_by_role("alert")).to_have_count(0)
            page.get_by_label("Search").fill("99")
            page.locator("td", has_text=re.compile("^99$")).wait_for()
            page.locator(".sg-rows .sg-link").click()
            expect(page.locator(".sg-error")).to_contain_text(f"at most {MAX_OBJECTS} objects")
            expect(page.get_by_role("tab", name="Evaluation")).to_have_attribute(
                "aria-selected", "true"
            )
