"""Every widget of every lesson, driven in a real browser: JupyterLab and the classic Notebook.

    make doors

Lessons run in the smoke profile; screenshots go to build/doors/. Named so that `make test` leaves
it out: it needs Chromium and minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from itertools import product

import pytest
from browser import BROWSER, DOORS, QUIET, find_port, wait_for
from playwright.sync_api import expect, sync_playwright

from lessons_lib.lessons import list_lessons
from lessons_lib.paths import NOTEBOOKS, REPOSITORY

FRONTENDS = {
    "lab": "lab/workspaces/{0}/tree/notebooks/{0}.ipynb",
    "classic": "notebooks/notebooks/{0}.ipynb",
}
SLIDERS = ("01_gpt_vs_bert", "05_rag_vs_finetuning")
TEXTS = {
    "02_llama2_knowledge_augmentation": "What is a tremor?",
    "03_llama2_sentiment": "The reform helps everybody.",
    "04_distilbert_lora_imdb": "A dull, lifeless waste of an evening.",
    "05_rag_vs_finetuning": "What is the drug Nobody?",
}


@pytest.fixture(scope="module")
def server():
    """A Jupyter server, which serves both, over a copy of the lessons: what is run is saved by
    itself.
    """
    served = DOORS / "served"
    shutil.rmtree(served, ignore_errors=True)
    shutil.copytree(NOTEBOOKS, served / "notebooks")
    (served / "data").symlink_to(REPOSITORY / "data")
    port = find_port()
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    environment = {**os.environ, "LESSONS_PROFILE": "smoke", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "jupyter", "lab", str(served), *options]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}/"
    wait_for(lambda: urllib.request.urlopen(address + "api", timeout=5).status == 200, 60)
    yield address
    process.terminate()
    process.wait(30)


@pytest.fixture
def page(request):
    """A fresh page that keeps the console's errors in `page.errors`."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=QUIET)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.errors = []
        page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        yield page
        page.screenshot(path=DOORS / f"{request.node.callspec.id}-end.png")
        browser.close()


def run_all(page):
    """Runs all cells and waits for the last."""
    page.locator(".jp-Notebook").first.wait_for(timeout=90_000)
    expect(
        page.locator(".jp-Notebook-ExecutionIndicator, .jp-NotebookKernelStatus").first
    ).to_be_attached()
    page.wait_for_timeout(5_000)  # the kernel's start has no sign that both frontends share
    page.errors.clear()  # an empty notebook has these too: they are the frontend's own
    page.keyboard.press("Escape")
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).first.click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).first.click()
    busy = page.locator(".jp-InputPrompt", has_text="[*]")
    wait_for(busy.count, 60)  # stored outputs have numbers already, so wait for the run to begin
    wait_for(lambda: not busy.count(), 240)


def scroll_to(page, selector):
    """Scrolls from the top until the widget is there: the notebook draws only what is in view."""
    panel = page.locator(".jp-WindowedPanel-outer").first
    panel.evaluate("panel => { panel.scrollTop = 0 }")
    for _ in range(300):
        page.wait_for_timeout(100)
        if page.locator(selector).count():
            page.locator(selector).first.scroll_into_view_if_needed()
            return page.locator(selector).first
        panel.evaluate("panel => { panel.scrollTop += 400 }")
    pytest.fail(f"no {selector} in the lesson")


@pytest.mark.parametrize(
    ("frontend", "lesson"), product(FRONTENDS, [p.stem for p in list_lessons()])
)
def test_widgets_answer(server, page, frontend, lesson):
    """Failing means a reader moves a slider or types a text, and nothing or an error happens."""
    page.goto(server + FRONTENDS[frontend].format(lesson))
    run_all(page)
    stored = (NOTEBOOKS / f"{lesson}.ipynb").read_text(encoding="utf-8")
    assert stored.count("jupyter.widget-view+json") == (lesson in SLIDERS) + (lesson in TEXTS)
    if lesson in SLIDERS:
        track = scroll_to(page, ".jupyter-widgets .noUi-target")
        shown = page.locator(".jp-OutputArea-output:has(.noUi-handle)").first
        page.wait_for_timeout(1_000)
        before = read(shown)
        track.click(position={"x": 0.8 * track.bounding_box()["width"], "y": 3})
        wait_for(lambda: read(shown) != before, 30)
        page.screenshot(path=DOORS / f"{lesson}-{frontend}-slider.png")
    if lesson in TEXTS:
        box = scroll_to(page, ".jupyter-widgets textarea")
        shown = page.locator(".jupyter-widgets:has(textarea) pre").first
        before = shown.inner_text()
        box.fill(TEXTS[lesson])
        page.locator(".jupyter-widgets button", has_text="Predict").first.click()
        wait_for(lambda: shown.inner_text() != before, 60)
        page.screenshot(path=DOORS / f"{lesson}-{frontend}-text.png")
    assert page.errors == []


def read(shown):
    """What the sliders have drawn, without the sliders' own numbers."""
    drawn = shown.locator(".widget-output, .jupyter-widgets-output-area").last
    return drawn.inner_html()
