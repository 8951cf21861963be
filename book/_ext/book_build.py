"""Sphinx extension of this book.

Pages load no script twice and none that would reach for the network: the theme brings sphinx-thebe, which this book
does not use, and which writes its settings into every page twice (an error in the browser) with the address of a CDN.
Pages can be read by ear and without a mouse: names that the theme leaves out are put in when all pages are written.

The package is imported in the ordinary way before autodoc does it with ``TYPE_CHECKING`` set, under which pydantic
leaves models unfinished.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def _import_package(app: Sphinx) -> None:
    package = importlib.import_module("nanh2lib")
    for module in pkgutil.walk_packages(package.__path__, "nanh2lib."):
        importlib.import_module(module.name)


def _skip_foreign(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Methods that a base class of another package puts into ours are documented there."""
    home = getattr(member, "__module__", None)
    return True if callable(member) and home and not home.startswith("nanh2lib") else None


def _keep_bars(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """A bar in a docstring is an absolute value or a choice, never a substitution."""
    for number, line in enumerate(lines):
        parts = line.split("``")  # every second part is literal
        parts[::2] = [re.sub(r"(?<!\\)\|", r"\|", part) for part in parts[::2]]
        lines[number] = "``".join(parts)


def _clean_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    kept, seen = [], set()
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body") or ""
        name = str(getattr(script, "filename", script) or "")
        if "THEBE_JS_URL" in body or "sphinx-thebe" in name or (name, body) in seen:
            continue
        seen.add((name, body))
        kept.append(script)
    context["script_files"] = kept


_MATH_AND_STOP = re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>)([.,;:!?)’]+)')


def _keep_stops(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """A full stop or comma stays on the line of the formula before it."""
    if "body" in context:
        context["body"] = _MATH_AND_STOP.sub(r'<span class="with-stop">\1\2</span>', context["body"])


def _gallery_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if pagename == "book/gallery":
        app.add_js_file("gallery.js", loading_method="defer")


_ACCESSIBLE = (
    # A section's fold in the side bar has no name, ...
    ('<summary><span class="toctree-toggle"', '<summary aria-label="Pages of this part"><span class="toctree-toggle"'),
    # ... a folded cell and the search field have another than what is written on them, ...
    ('<summary aria-label="Toggle hidden content">', "<summary>"),
    (
        'search-button-field search-button__button pst-js-only" title="Search" aria-label="Search"',
        'search-button-field search-button__button pst-js-only" title="Search"',
    ),
    # ... a table that is too wide can be scrolled by mouse only, ...
    ('<table class="table">', '<table class="table" tabindex="0">'),
    # ... and a reference has a role of the past, in a list that wants items.
    ('role="doc-biblioentry"', 'role="listitem"'),
)


def _name_things(app: Sphinx, exception: Exception | None) -> None:
    """Mend what the theme's pages lack for those who do not see them or have no mouse."""
    if exception is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for theirs, ours in _ACCESSIBLE:
            text = text.replace(theirs, ours)
        page.write_text(text, encoding="utf-8")


def _drop_thebe_nodes(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in node.astext() or "kernelName =" in node.astext():
            node.parent.remove(node)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _import_package)
    app.connect("autodoc-skip-member", _skip_foreign)
    app.connect("autodoc-process-docstring", _keep_bars, priority=900)
    app.connect("html-page-context", _gallery_script)
    app.connect("html-page-context", _clean_scripts, priority=900)
    app.connect("html-page-context", _keep_stops, priority=900)
    app.connect("doctree-resolved", _drop_thebe_nodes, priority=900)
    app.connect("build-finished", _name_things)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
