"""The built book in a real browser: offline, without errors, readable on a phone, and accessible."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.browser import NOWHERE, SOFTWARE_WEBGL, Watch, changed_share, drawn_share, picture, served
from tests.run_book import ROOT
from tests.system import require_module, require_system

pytestmark = [pytest.mark.browser, pytest.mark.slow]
# Several groups, so that workers can share the pages once the book is built.
book_group = pytest.mark.xdist_group("book")
pages_group = pytest.mark.xdist_group("pages")
PARTS = [pytest.param(part, marks=pytest.mark.xdist_group(f"pages {part}")) for part in (0, 1)]
"""Every second page, from the first or the second on."""

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = (ROOT / "tests" / "vendor" / "axe.min.js").read_text(encoding="utf-8")
AXE_RULES = [
    "aria-allowed-attr",
    "aria-hidden-focus",
    "button-name",
    "document-title",
    "html-has-lang",
    "image-alt",
    "label",
    "link-name",
    "svg-img-alt",
]
NOT_A_DESCRIPTION = re.compile(
    r"^$|^[0-9a-f]{12,}|\.(png|svg|jpe?g|gif)\s*$|^\S*/\S*$|^_?(images?|figures?|plots?|output)\s*\d*$", re.I
)
ATOMS_SECONDS, DRAG_SECONDS = 60, 5
CHANGED = 0.002
"""Share of the pixels of a view that a drag changes, at least."""


@pytest.fixture(scope="module")
def chromium():
    require_module("playwright", "book")
    program = require_system("chromium", "the pages are looked at in it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=SOFTWARE_WEBGL, proxy=NOWHERE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(book):
    with served(book) as url:
        yield url


@pytest.fixture(scope="module")
def pages(book) -> list[str]:
    """Pages with text, as paths below the book."""
    found = [path.relative_to(book).as_posix() for path in sorted(book.rglob("*.html"))]
    return [name for name in found if not name.startswith("_") and name != "index.html"]


@pytest.fixture(scope="module")
def live_pages(book, pages) -> list[str]:
    return [name for name in pages if "jupyter.widget-view+json" in (book / name).read_text(encoding="utf-8")]


@pytest.fixture
def tab(chromium):
    context = chromium.new_context(viewport=DESKTOP)
    yield context.new_page()
    context.close()


def visit(tab, url: str) -> list[str]:
    """Open a page, let it come to rest, and say what went wrong."""
    _, troubles = begin_visit(tab, url)
    come_to_rest(tab)
    return troubles


def begin_visit(tab, url: str) -> tuple[Any, list[str]]:
    """The tab, which opens a page; what goes wrong with it from now on is added to the list."""
    watch = Watch(tab)
    tab.goto(url, wait_until="commit", timeout=60_000)
    return tab, watch.troubles


def come_to_rest(tab) -> None:
    """Wait until a page that opens is there, its formulas too."""
    for state in ("load", "networkidle"):
        tab.wait_for_load_state(state, timeout=60_000)
    tab.evaluate("window.MathJax && window.MathJax.startup && window.MathJax.startup.promise")
    settle(tab)


def settle(tab) -> None:
    """Wait until the page has been laid out and painted as it now stands: two frames.

    Chromium owes a frame to nobody (a lost GPU process stops them), and `evaluate` waits for ever: 5 s are enough.
    """
    tab.evaluate(
        "() => new Promise(done => { setTimeout(done, 5000);"
        " requestAnimationFrame(() => requestAnimationFrame(done)) })"
    )


def one_after_the_other(context, address: str, names: list[str]) -> Iterator[tuple[str, Any, list[str]]]:
    """Name, tab and troubles of each page, at rest; the next one loads while this one is looked at."""
    begun = ((name, *begin_visit(context.new_page(), f"{address}/{name}")) for name in names)
    for (name, tab, troubles), _ in pairwise(chain(begun, [None])):
        come_to_rest(tab)
        yield name, tab, troubles
        tab.close()


@dataclass
class Survey:
    """What one look at every page found, by page; empty is good."""

    troubles: dict[str, Any] = field(default_factory=dict)
    broken_formulas: dict[str, Any] = field(default_factory=dict)
    poor_alt_texts: dict[str, Any] = field(default_factory=dict)
    violations: dict[str, dict[str, Any]] = field(default_factory=lambda: {"light": {}, "dark": {}})
    wide: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def note(place: dict[str, Any], page: str, found: Any) -> None:
        if found:
            place[page] = found


@pytest.fixture(scope="module", params=PARTS)
def survey(chromium, address, pages, request) -> Survey:
    """Each page once: errors, formulas, pictures, accessibility in both themes, then at the width of a phone."""
    seen = Survey()
    context = chromium.new_context(viewport=DESKTOP)  # one for all: scripts that pages share are read once
    known: dict[str, set[str]] = {theme: set() for theme in seen.violations}
    for name, tab, troubles in one_after_the_other(context, address, ["index.html", *pages][request.param :: 2]):
        formulas = tab.eval_on_selector_all("mjx-merror, [data-mjx-error]", "nodes => nodes.map(n => n.textContent)")
        seen.note(seen.broken_formulas, name, formulas)
        alts = tab.eval_on_selector_all("article img", "images => images.map(i => i.getAttribute('alt'))")
        poor = [alt for alt in alts if alt is None or NOT_A_DESCRIPTION.search(alt) or len(alt) < 10]
        seen.note(seen.poor_alt_texts, name, poor)
        tab.evaluate(AXE)
        tab.add_style_tag(content="* { transition: none !important; animation: none !important }")
        seen.note(seen.violations["light"], name, axe_violations(tab, AXE_RULES))
        for theme, found in seen.violations.items():
            tab.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            settle(tab)
            new = tab.evaluate(NEW_LOOKS, sorted(known[theme]))
            if new:
                known[theme].update(new)
                seen.note(found, name, found.get(name, []) + axe_violations(tab, ["color-contrast"], "window.newLooks"))
        tab.set_viewport_size(PHONE)
        settle(tab)
        width = tab.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"] + 1:
            seen.note(seen.wide, name, (width, tab.evaluate(WIDE_ELEMENTS, PHONE["width"])))
        seen.note(seen.troubles, name, troubles)
    context.close()
    return seen


NEW_LOOKS = """known => {
  const looks = new Map(), before = new Set(known);
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const element = words.currentNode.parentElement;
    if (!words.currentNode.data.trim() || !element.checkVisibility({visibilityProperty: true})) continue;
    const own = getComputedStyle(element), look = [element.tagName, own.color, own.fontSize, own.fontWeight];
    for (let part = element; part; part = part.parentElement) {
      const style = getComputedStyle(part);
      if (style.opacity !== "1") look.push(style.opacity);
      look.push(...[style.filter, style.backgroundImage].filter(value => value !== "none"));
      if (style.backgroundColor !== "rgba(0, 0, 0, 0)") look.push(style.backgroundColor);
      if (style.backgroundColor.startsWith("rgb(")) break;
    }
    const name = look.join(" ");
    if (!before.has(name) && !looks.has(name)) looks.set(name, element);
  }
  window.newLooks = [...looks.values()];
  return [...looks.keys()];
}"""
"""Texts in colours, sizes, weights and on grounds that no page before had, one of each.

axe-core computes contrast for seconds on a long page; what looks alike has the same.
"""


def axe_violations(tab, rules: list[str], where: str = "document") -> list[tuple[str, str, str]]:
    # What passed is not needed, and its selectors are most of the work.
    options = {
        "runOnly": {"type": "rule", "values": rules},
        "resultTypes": ["violations", "incomplete"],
        "selectors": False,
    }
    result = tab.evaluate(f"options => axe.run({where}, options)", options)
    found = [
        (violation["id"], node["html"][:160], _message(node))
        for violation in result["violations"]
        for node in violation["nodes"][:3]
    ]
    # Text in the very colour of its ground is "incomplete" to axe: it might be meant to be hidden. Ours never is.
    unseen = [
        ("color-contrast", node["html"][:160], _message(node))
        for doubt in result["incomplete"]
        for node in doubt["nodes"]
        if "1:1 contrast" in _message(node)
    ]
    return found + unseen[:3]


def _message(node) -> str:
    return node["any"][0]["message"][:200] if node["any"] else ""


WIDE_ELEMENTS = """limit => Array.from(document.querySelectorAll('.bd-main *'))
  .filter(e => e.getBoundingClientRect().right > limit + 1 && !e.closest('pre, table, .cell_output'))
  .slice(0, 5).map(e => e.tagName + '.' + e.className)"""


@book_group
def test_the_book_has_its_pages(pages):
    names = {Path(name).stem for name in pages}
    assert {
        "index",
        "gallery",
        "conventions",
        "architecture",
        "what-holds",
        "scaling",
        "glossary",
        "references",
    } <= names
    assert {"api", "changelog"} <= names
    assert {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")} <= names


def test_every_page_loads_without_the_network_and_without_an_error(survey):
    assert survey.troubles == {}


def test_no_formula_is_broken(survey):
    assert survey.broken_formulas == {}


def test_every_picture_says_what_it_shows(survey):
    assert survey.poor_alt_texts == {}


def test_a_phone_has_no_sideways_scroll(survey):
    assert survey.wide == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(survey, theme):
    """Contrast, names and alt texts, by axe-core."""
    assert survey.violations[theme] == {}


@pages_group
@pytest.mark.parametrize("style", ["color: #aaa", "background: #333", "opacity: 0.3", "color: #fff; background: #fff"])
def test_words_that_cannot_be_read_are_found_among_others(tab, style):
    tab.set_content("<html lang='en'><body style='background: #fff'><p>Words.</p><section></section></body></html>")
    tab.evaluate(AXE)
    known = tab.evaluate(NEW_LOOKS, [])
    assert axe_violations(tab, ["color-contrast"], "window.newLooks") == []
    tab.evaluate(
        "style => document.querySelector('section').innerHTML = `<p style='${style}'>Pale.</p><p>.</p>`", style
    )
    assert len(tab.evaluate(NEW_LOOKS, known)) == 1
    (found,) = axe_violations(tab, ["color-contrast"], "window.newLooks")
    assert style in found[1]


@pages_group
def test_what_a_page_asks_of_the_world_is_noted_and_not_had(tab, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<html><body><img src='http://192.0.2.1/away.png'></body></html>", encoding="utf-8")
    troubles = visit(tab, page.as_uri())
    assert "off the machine: http://192.0.2.1/away.png" in troubles
    assert any(trouble.startswith("failed: http://192.0.2.1/away.png net::ERR_PROXY") for trouble in troubles)


@pages_group
def test_pages_open_from_the_folder_too(chromium, book, live_pages):
    troubles = {}
    for name in ["index.html", "book/conventions.html", *live_pages[:2]]:
        tab = chromium.new_page(viewport=DESKTOP)
        found = visit(tab, (book / name).as_uri())
        tab.close()
        if found:
            troubles[name] = found
    assert troubles == {}


def wait_for_atoms(canvas) -> float:
    """Share of the view that is drawn on, once it is more than the lines of a cell."""
    start, share = time.monotonic(), 0.0
    while time.monotonic() - start < ATOMS_SECONDS:
        share = drawn_share(picture(canvas))
        if share > 0.01:
            return share
        canvas.page.wait_for_timeout(500)
    return share


def drag(tab, canvas) -> None:
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    for step in range(1, 9):
        tab.mouse.move(x + 12 * step, y + 7 * step)
    tab.mouse.up()


def picture_once_changed(canvas, before) -> Any:
    """Picture of a view after a drag: as soon as it differs from the one before, or as it is after some seconds."""
    start = time.monotonic()
    while True:
        canvas.page.wait_for_timeout(300)
        after = picture(canvas)
        if changed_share(before, after) > CHANGED or time.monotonic() - start > DRAG_SECONDS:
            return after


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("way", ["http", "file"])
def test_live_views_show_atoms_and_survive_a_drag(chromium, address, book, live_pages, way, part):
    names = live_pages[part::2] if way == "http" else live_pages[part : part + 1]
    assert names, "no page with a live view"
    for name in names:
        tab = chromium.new_page(viewport=DESKTOP)
        troubles = visit(tab, f"{address}/{name}" if way == "http" else (book / name).as_uri())
        tab.wait_for_selector(".cell_output canvas", timeout=60_000)
        canvases = tab.locator(".cell_output canvas")
        assert 1 <= canvases.count() <= 4, name
        for index in range(canvases.count()):
            canvas = canvases.nth(index)
            canvas.scroll_into_view_if_needed()
            assert wait_for_atoms(canvas) > 0.01, f"{name}: view {index} is empty"
            before = picture(canvas)
            drag(tab, canvas)
            after = picture_once_changed(canvas, before)
            assert changed_share(before, after) > CHANGED, f"{name}: view {index} does not turn"
            assert drawn_share(after) > 0.01, f"{name}: view {index} is empty after a drag"
        for index in range(canvases.count()):
            assert drawn_share(picture(canvases.nth(index))) > 0.01, f"{name}: view {index} is empty in the end"
        assert troubles == [], name
        tab.close()


@pages_group
@pytest.mark.parametrize("way", ["http", "file"])
def test_gallery_compares_two_crystals_with_views_that_turn(chromium, address, book, way):
    name = "book/gallery.html"
    tab = chromium.new_page(viewport=DESKTOP)
    troubles = visit(tab, f"{address}/{name}" if way == "http" else (book / name).as_uri())
    cards = tab.locator(".nanh2-cards img").count()
    options = tab.locator("#gallery-choice-0 option")
    assert options.count() == cards >= 10
    assert tab.locator("canvas").count() == 0, "views load on request"
    assert tab.locator(".nanh2-pane img:visible").count() == 2
    tab.locator(".nanh2-turn").first.click()
    tab.wait_for_selector(".nanh2-stage canvas", timeout=60_000)
    canvas = tab.locator(".nanh2-stage canvas").first
    assert wait_for_atoms(canvas) > 0.01
    before = picture(canvas)
    drag(tab, canvas)
    after = picture_once_changed(canvas, before)
    assert changed_share(before, after) > CHANGED
    tab.select_option("#gallery-choice-0", index=3)
    tab.wait_for_function("document.querySelectorAll('.nanh2-stage canvas').length === 1", timeout=60_000)
    assert wait_for_atoms(tab.locator(".nanh2-stage canvas").first) > 0.01
    tab.locator(".nanh2-turn").nth(1).click()
    tab.wait_for_function("document.querySelectorAll('.nanh2-stage canvas').length === 2", timeout=60_000)
    labels = tab.eval_on_selector_all(".nanh2-stage", "nodes => nodes.map(node => node.getAttribute('aria-label'))")
    assert len(set(labels)) == 2
    assert all(len(label) > 50 for label in labels)
    tab.locator(".nanh2-turn").first.click()
    tab.wait_for_function("document.querySelectorAll('.nanh2-stage canvas').length === 1", timeout=60_000)
    assert troubles == []
    tab.close()


@pages_group
def test_gallery_offers_every_crystal_and_the_data_of_the_run(book):
    text = (book / "book" / "gallery.html").read_text(encoding="utf-8")
    files = [Path(name) for name in re.findall(r'href="\.\./(_downloads/[^"]+)"', text)]
    assert all((book / file).is_file() for file in files)
    names = {file.name for file in files}
    assert {
        "alpha.cif",
        "S1-P21212.cif",
        "S2-Pc.cif",
        "rank-01.cif",
        "01_published_tables.json",
        "ranking.csv",
    } <= names


@pages_group
def test_search_finds_the_asymmetric_unit(tab, address):
    troubles = visit(tab, f"{address}/search.html?q=asymmetric+unit")
    tab.wait_for_selector("#search-results li a", timeout=30_000)
    links = tab.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    assert any("glossary" in link for link in links)
    assert any("conventions" in link for link in links)
    assert troubles == []


@pages_group
def test_formulas_are_rendered(tab, address):
    visit(tab, f"{address}/book/conventions.html")
    assert tab.locator("mjx-container").count() > 30
    assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0
    text = tab.locator("article").inner_text()
    assert "\\begin" not in text
    assert "$$" not in text
    height = tab.locator("mjx-container[display='true']").first.bounding_box()["height"]
    assert height > 30
