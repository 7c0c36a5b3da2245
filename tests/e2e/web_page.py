"""The web page that `make site` has built: links, accessibility, search, and that it needs no
network.

make doors
"""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import BROWSER, DOORS, QUIET, wait_for
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

from lessons_lib.lessons import list_lessons
from lessons_lib.paths import REPOSITORY

SITE = REPOSITORY / "build" / "site"
LESSONS = [f"notebooks/{path.stem}.html" for path in list_lessons()]
PAGES = [
    "index.html",
    *LESSONS,
    "notebooks/glossary.html",
    "notebooks/assignments/README.html",
    "search.html",
]


@pytest.fixture(scope="module")
def address():
    """The site on a file server."""
    if not (SITE / "index.html").is_file():
        pytest.fail("build/site is missing. Remedy: make site")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(SITE)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """Chromium, for all of this file."""
    with sync_playwright() as play:
        yield play.chromium.launch(executable_path=BROWSER, args=QUIET)


def find_broken_links(root: Path) -> list[str]:
    """Links and sources within the site that lead nowhere, "page: link"."""
    # there lie templates
    pages = (path for path in root.rglob("*.html") if "_static" not in path.parts)
    soups = {path: BeautifulSoup(path.read_bytes(), "html.parser") for path in pages}
    anchors = {path: {tag["id"] for tag in soup.select("[id]")} for path, soup in soups.items()}
    broken = []
    for path, soup in soups.items():
        for tag in soup.select("a[href], img[src], script[src], link[href]"):
            link = tag.get("href") or tag.get("src")
            target, anchor = urldefrag(link)
            if urlsplit(link).scheme or link.startswith("//") or not link:
                continue
            place = (path.parent / unquote(target.split("?")[0])).resolve() if target else path
            if not place.is_file() or (
                anchor and place in anchors and unquote(anchor) not in anchors[place]
            ):
                broken.append(f"{path.relative_to(root)}: {link}")
    return broken


def test_links_within_the_site_arrive(address):
    """Failing means a reader clicks and gets nowhere."""
    assert find_broken_links(SITE) == []


def test_link_check_sees_a_broken_link(tmp_path):
    """Failing means the check above cannot fail."""
    (tmp_path / "a.html").write_text('<a href="#there">x</a><a href="b.html">y</a><p id="here">')
    assert find_broken_links(tmp_path) == ["a.html: #there", "a.html: b.html"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_and_needs_no_network(address, browser, name, theme):
    """Failing means some readers cannot use the page, or that it is broken offline."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.add_init_script(
        f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
    )
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address + name)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    found = find_violations(page)
    page.screenshot(path=DOORS / f"site-{Path(name).parent.name}-{Path(name).stem}-{theme}.png")
    page.close()
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert found == {}


def find_violations(page) -> dict[str, list[str]]:
    """Serious and critical violations that axe-core finds, with the beginnings of where."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return {
        violation["id"]: [node["html"][:120] for node in violation["nodes"][:4]]
        for violation in found
        if violation["impact"] in ("serious", "critical")
    }


def test_accessibility_check_sees_a_violation(browser):
    """Failing means the check above cannot fail."""
    page = browser.new_page()
    page.set_content(
        '<html lang="en"><title>x</title><main><img src="x.png"><p style="color:#ccc">pale'
    )
    assert {"image-alt", "color-contrast"} <= set(find_violations(page))


@pytest.mark.parametrize("name", LESSONS)
def test_lesson_offers_its_pair_and_the_way_on(address, name):
    """Failing means a reader cannot take the lesson along, or does not find the next."""
    soup = BeautifulSoup((SITE / name).read_bytes(), "html.parser")
    assert {Path(a["href"]).suffix for a in soup.select("a.download")} == {".ipynb", ".py"}
    assert soup.select("a.right-next")
    assert soup.select("a.left-prev")
    images = soup.select(".cell_output img")
    assert images
    assert all(len(image["alt"].split()) >= 8 for image in images)


def test_search_finds_a_lesson(address, browser):
    """Failing means search finds nothing, or needs a server that does more than send files."""
    page = browser.new_page()
    page.goto((SITE / "search.html").as_uri() + "?q=perplexity")
    wait_for(lambda: page.locator("#search-results a").count(), 20)
    assert "02_llama2" in page.locator("#search-results").inner_html()


def test_code_can_be_copied(address, browser):
    """Failing means readers must select code by hand."""
    page = browser.new_page()
    page.goto(address + LESSONS[0])
    wait_for(lambda: page.locator("button.copybtn").count() > 20, 20)
