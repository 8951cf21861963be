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
from sphinx.util.nodes import make_refnode


def _import_package(app: Sphinx) -> None:
    package = importlib.import_module("nanh2lib")
    for module in pkgutil.walk_packages(package.__path__, "nanh2lib."):
        importlib.import_module(module.name)


def _skip_foreign(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Methods that a base class of another package puts into ours are documented there."""
    home = getattr(member, "__module__", None)
    return True if callable(member) and home and not home.startswith("nanh2lib") else None


_COLON = "\uf8ff"  # a letter for private use


def _hide_colons(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """A colon in the line under a constant is a colon; napoleon would take what stands before it for a type."""
    if what in ("data", "attribute", "property") and lines:
        lines[0] = lines[0].replace(":", _COLON)


def _keep_letters(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """A bar in a docstring is an absolute value or a choice, never a substitution; ``A.`` is a unit, not item A."""
    for number, line in enumerate(lines):
        parts = line.replace(_COLON, ":").split("``")  # every second part is literal
        parts[::2] = [re.sub(r"(?<!\\)\|", r"\|", part) for part in parts[::2]]
        lines[number] = _LONE_LETTER.sub(r"\1\\.", "``".join(parts))


_LONE_LETTER = re.compile(r"^(\s*(?:\*\s+)?(?::[^:]+: )?[A-Z])\.(?=\s|$)")


def _short_defaults(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A default that is a long object, or made for each call, is told in the description, not in the signature.

    A path is a ``Path``, on whatever system the book is built.
    """
    if signature:
        signature = _shortened(re.sub(r"\b(?:Posix|Windows)Path\(", "Path(", signature))
    return signature, returned


def _shortened(signature: str) -> str:
    """Defaults longer than a word or two become an ellipsis: ``f(a=Settings(...), b=2)`` gives ``f(a=..., b=2)``."""
    parts, depth, start = [], 0, 1
    for place, letter in enumerate(signature[1:-1], 1):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(signature[start:place].strip())
            start = place + 1
    parts.append(signature[start:-1].strip())
    return "(" + ", ".join(_LONG_DEFAULT.sub(r"\1=...", part) for part in parts) + ")"


_LONG_DEFAULT = re.compile(r"^(\w+)=(?:<.*|.{31,})$", re.DOTALL)


def _resolve_name(
    app: Sphinx, env: Any, node: nodes.Element, shown: nodes.TextElement
) -> nodes.reference | nodes.TextElement | None:
    """What stands in single backquotes in a docstring: a link where one thing of ours has that name, else just code."""
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    name = node["reftarget"].removeprefix("nanh2lib.")
    folder, _, last = name.rpartition(".")  # nanh2lib.part.thing may be defined in a module of that part
    known = {
        found.docname + "#" + found.node_id: (full, found)
        for full, found in env.get_domain("py").objects.items()
        if (full.endswith("." + name) and ("." in name or found.objtype not in ("attribute", "method", "property")))
        or (full.startswith(f"nanh2lib.{folder}.") and full.endswith("." + last) and name != node["reftarget"])
    }
    here = node.get("py:module") or ""
    near = [found for full, found in known.values() if full.startswith(here + ".")]
    for choice in (near, [found for _, found in known.values()]):
        if len(choice) == 1:
            (target,) = choice
            return make_refnode(app.builder, node["refdoc"], target.docname, target.node_id, shown)
    return shown


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
    app.connect("autodoc-process-docstring", _hide_colons, priority=100)
    app.connect("autodoc-process-docstring", _keep_letters, priority=900)
    app.connect("autodoc-process-signature", _short_defaults)
    app.connect("missing-reference", _resolve_name)
    app.connect("html-page-context", _gallery_script)
    app.connect("html-page-context", _clean_scripts, priority=900)
    app.connect("html-page-context", _keep_stops, priority=900)
    app.connect("doctree-resolved", _drop_thebe_nodes, priority=900)
    app.connect("build-finished", _name_things)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
