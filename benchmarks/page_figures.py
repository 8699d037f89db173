"""Take the pictures of the page and of a report: README.md, docs/page.md and docs/results.md.

    sgflux demo
    python benchmarks/page_figures.py

opens ``sgflux page`` in Chromium (Playwright drives it), draws with the bundled adapter and seed 0
the graph that stands there at first and one with twins, and writes ``docs/figures/page_*.png``. The
training is the newest below ``runs``. Of the demo's report, ``docs/figures/demo_report.png`` shows
the first test item of the first three predicates in alphabetical order.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
REPORT_FILE = Path("runs/demo/evaluation/report.html")
WIDE, NARROW = {"width": 1280, "height": 760}, {"width": 390, "height": 1580}
REPORT = {"width": 1100, "height": 600}
TWINS = "man, riding, horse; dog, left of, horse; dog#2, right of, horse"
FIRST_ITEMS = """() => {
  const panels = [...document.querySelectorAll(".panel")].filter(
    ({ dataset: { choices, predicates } }) =>
      choices.split("|").includes("first") && !predicates.includes("|"));
  panels.sort((a, b) => (a.dataset.predicates < b.dataset.predicates ? -1 : 1));
  document.body.replaceChildren(...panels.slice(0, 3));
  document.querySelectorAll("details, .trace").forEach((element) => element.remove());
  panels.forEach((panel) => (panel.hidden = false));
  document.body.style.padding = "0 14px";
}"""
"""Script that leaves three panels of a report."""
PATIENCE = 1_800_000  # milliseconds until the pictures are drawn, on a busy machine


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """The address of a page in a process of its own."""
    command = [sys.executable, "-m", "sgflux", "page", "--port", "0", "--no-show"]
    process = subprocess.Popen(
        [*command, "--runs", str(runs)], stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert process.stdout is not None
        said = re.search(r"http://\S+:(\d+)", process.stdout.readline())
        assert said is not None, "the page did not start; its message stands above"
        while process.poll() is None:  # the address is said a moment before it listens
            try:
                socket.create_connection(("127.0.0.1", int(said[1]))).close()
                break
            except OSError:
                time.sleep(0.5)
        yield said[0]
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="Folder of trainings.")
    parser.add_argument("--report", type=Path, default=REPORT_FILE, help="Report of the demo.")
    parser.add_argument("--output-dir", type=Path, default=FIGURES, help="Folder of the pictures.")
    flags = parser.parse_args()
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    browsers = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    with served(flags.runs) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(browsers, None), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=WIDE, color_scheme="light")
        page.set_default_timeout(PATIENCE)

        def take(name: str, *, full_page: bool = False) -> None:
            page.wait_for_timeout(1000)  # colours and charts come to rest
            content = io.BytesIO(page.screenshot(full_page=full_page))
            picture = Image.open(content).convert("RGB").quantize(256, dither=Image.Dither.NONE)
            picture.save(flags.output_dir / f"{name}.png", optimize=True)

        def draw(number: int) -> None:
            page.get_by_role("button", name="Draw", exact=True).click()
            expect(page.locator(".sg-past")).to_have_count(number, timeout=PATIENCE)
            page.mouse.move(5, 5)

        page.goto(address)
        draw(1)
        take("page_draw")
        page.emulate_media(color_scheme="dark")
        take("page_dark")
        page.set_viewport_size(NARROW)
        take("page_narrow")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(WIDE)
        page.get_by_role("tab", name="Training").click()
        expect(page.locator(".sg-chart canvas").first).to_be_visible()
        take("page_training")
        page.get_by_role("tab", name="Draw").click()
        page.get_by_label("As text").fill(TWINS)
        expect(page.locator(".vue-flow__node")).to_have_count(4)
        draw(2)
        take("page_twins")
        page.set_viewport_size(REPORT)
        page.goto(flags.report.resolve().as_uri())
        page.evaluate(FIRST_ITEMS)
        take("demo_report", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
