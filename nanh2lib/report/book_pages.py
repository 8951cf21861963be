"""Pages of the book that are written by the code: API reference, module graph, tables of the run."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nanh2lib.report.model_pages import models_page
from nanh2lib.report.module_graph import Graph, draw_module_graph, import_graph, levels
from nanh2lib.settings import read_yaml

PACKAGE = "nanh2lib"
GENERATED = "_generated"
_INCLUDE = re.compile(r"\{include\}\s+_generated/(tables/[\w./-]+\.md)")


def write_generated_pages(stage: str | Path, profile: str) -> None:
    """Write the generated parts of the book into a staging folder.

    Parameters
    ----------
    stage : path
        Folder with ``book/`` and, where the run made them, ``results/tables``.
    profile : str
        Named where a table was not computed.
    """
    book = Path(stage) / "book"
    generated = book / GENERATED
    graph = import_graph()
    modules_of = api_modules(graph)
    (generated / "tables").mkdir(parents=True, exist_ok=True)
    (generated / "module-graph.md").write_text(_graph_page(generated, graph), encoding="utf-8")
    (generated / "public-names.md").write_text(_public_names(), encoding="utf-8")
    (generated / "api-parts.md").write_text(_parts(modules_of), encoding="utf-8")
    (generated / "launch.md").write_text(launch_words(read_yaml(Path(stage) / "_config.yml")), encoding="utf-8")
    (generated / "models.md").write_text(models_page(generated), encoding="utf-8")
    (generated / "downloads.md").write_text(_downloads(Path(stage) / "results"), encoding="utf-8")
    _copy_tables(Path(stage) / "results" / "tables", generated / "tables", _wanted_tables(book), profile)
    (book / "api").mkdir(exist_ok=True)
    for part, modules in modules_of.items():
        (book / "api" / f"{part}.md").write_text(_api_page(part, modules), encoding="utf-8")


def launch_words(config: Mapping[str, Any]) -> str:
    """How to run a notebook away from one's own machine, by whether the book knows its repository."""
    if config.get("launch_buttons") and config.get("repository"):
        return (
            "The rocket at the top of each notebook opens it on Binder or in Colab. **Nobody has tried either yet**: "
            "tell us if you do. Binder builds the environment from `environment.yml`, which takes long the first time; "
            "in Colab, run the first cell, which installs the package.\n"
        )
    return (
        "These pages do not know the address of their repository, so they have no buttons for Binder and Colab; "
        "`python scripts/set_repository.py https://github.com/OWNER/NAME` adds them, with a first cell that installs "
        "the package. **Nobody has tried either yet**: tell us if you do.\n"
    )


def api_modules(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Public modules by the part of the package they belong to, low parts last."""
    root = Path(__file__).resolve().parent.parent
    heights = levels(graph)
    found: dict[str, tuple[str, ...]] = {}
    for part in sorted(graph, key=lambda name: (-heights[name], name)):
        paths = [root / f"{part}.py"] if (root / f"{part}.py").is_file() else sorted((root / part).rglob("*.py"))
        names = (".".join((PACKAGE, *path.relative_to(root).with_suffix("").parts)) for path in paths)
        modules = (name.removesuffix(".__init__") for name in names)
        found[part] = tuple(name for name in modules if not name.rsplit(".", 1)[-1].startswith("_"))
    return {part: modules for part, modules in found.items() if modules}


def _api_page(part: str, modules: Iterable[str]) -> str:
    lines = [f"# `{PACKAGE}.{part}`", ""]
    for module in modules:
        if module != f"{PACKAGE}.{part}":
            lines += [f"## `{module.removeprefix(PACKAGE + '.')}`", ""]
        options = ("   :members:", "   :ignore-module-all:", "   :no-value:")  # values may hold folders of a machine
        lines += ["```{eval-rst}", f".. automodule:: {module}", *options, "```", ""]
    return "\n".join(lines)


def _public_names() -> str:
    """List of what ``import nanh2lib`` offers, each with a link to its description."""
    package = importlib.import_module(PACKAGE)
    lines = []
    for name in getattr(package, "__all__", ()):
        thing = getattr(package, name)
        home = getattr(thing, "__module__", None) or ""
        if home.startswith(f"{PACKAGE}.") and (isinstance(thing, type) or inspect.isfunction(thing)):
            role = "class" if isinstance(thing, type) else "func"
            lines.append(f"- {{py:{role}}}`~{home}.{thing.__qualname__}`")
        else:  # a constant
            lines.append(f"- {{py:obj}}`{name}`")
    return "\n".join(lines or ["The names are documented with their modules below."]) + "\n"


def _parts(parts: Iterable[str]) -> str:
    """List of the pages of the API, each with the first sentence of what it describes."""
    lines = []
    for part in parts:
        said = (importlib.import_module(f"{PACKAGE}.{part}").__doc__ or "").strip().splitlines()
        lines.append(f"- [`{part}`](api/{part}.md): {said[0] if said else ''}")
    return "\n".join(lines) + "\n"


def _graph_page(folder: Path, graph: Graph) -> str:
    """Figure and, for readers who cannot see it, the same as a list."""
    draw_module_graph(folder / "module-graph.svg", graph)
    heights = levels(graph)
    order = sorted(graph, key=lambda name: (-heights[name], name))
    alt = (
        f"Module graph: {len(graph)} parts of the package in {max(heights.values()) + 1} levels; arrows point down only"
    )
    lines = [
        "```{figure} _generated/module-graph.svg",
        ":name: fig-module-graph",
        f":alt: {alt}",
        "",
        "Parts of the package and what they import, drawn from the import statements while this book was built.",
        "Arrows that follow from others are left out.",
        "```",
        "",
        ":::{dropdown} The same as a list",
    ]
    for part in order:
        imported = ", ".join(f"`{low}`" for low in sorted(graph[part]))
        lines.append(f"- `{part}` imports {imported or 'no other part'}")
    return "\n".join([*lines, ":::", ""])


def _downloads(results: Path) -> str:
    """List of the data files of the run that lie beside the pages, each as a download."""
    files = [*sorted(results.glob("[0-9]*.json")), *sorted((results / "tables").glob("*.csv"))]
    lines = [f"- {{download}}`{path.name} <../results/{path.relative_to(results).as_posix()}>`" for path in files]
    return "\n".join(lines or ["*This run left no data files.*"]) + "\n"


def _wanted_tables(book: Path) -> set[str]:
    return {
        name for page in book.rglob("*.md") for name in _INCLUDE.findall(page.read_text(encoding="utf-8"))
    }  # "tables/NAME.md"


def _copy_tables(source: Path, target: Path, wanted: Iterable[str], profile: str) -> None:
    """Tables of the run, and a plain sentence in the place of one that this profile did not compute."""
    for name in sorted(wanted):
        table = source / Path(name).relative_to("tables")
        text = (
            table.read_text(encoding="utf-8")
            if table.is_file()
            else f"*Not computed in profile `{profile}`: build the book with a larger profile to see the numbers.*\n"
        )
        path = target / Path(name).relative_to("tables")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
