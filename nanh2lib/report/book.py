"""Build the book: stage sources, executed notebooks and generated pages, then run Jupyter Book strictly."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import yaml

from nanh2lib.errors import ComputationError, InputError, MissingDependencyError
from nanh2lib.report.book_pages import GENERATED, write_generated_pages
from nanh2lib.report.chapter_list import chapter_list
from nanh2lib.report.notebooks import RUN_METADATA, import_book_package, write_notebook
from nanh2lib.settings import package_version, read_yaml

BOOK_COMMAND = ("-W", "-n", "--keep-going")
"""Options of ``jupyter-book build``: warnings are errors, references must resolve, all are shown."""

PUBLISHED_FOLDERS = ("tables", "cifs", "figures")
"""Folders of a results directory that pages may link to, as ``results/...``."""

DATASET_FILES = ("DATASET.md", "dataset.json", "dataset.xyz.gz")
"""Files of ``nanh2lib/data`` that a page shows or offers for download."""

_NGLVIEW_SCRIPT = "nglview-js-widgets/index.js"
_MARGIN = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
# The API reference is left out on paper: hundreds of pages that are better read on a screen.
_PAPER = 'section[id^="module-nanh2lib"] { display: none }'
# Paper cannot be unfolded, and needs a title.
_FOR_PAPER = """([title, run]) => {
    document.querySelectorAll("details").forEach(fold => { fold.open = true });
    document.querySelectorAll("summary").forEach(line => {
        if (/the solution/.test(line.textContent)) { line.textContent = "Solution" }
    });
    const top = document.createElement("div");
    top.className = "nanh2-title";
    [title, run].forEach(text => { top.appendChild(document.createElement("p")).textContent = text });
    const start = document.getElementById("jb-print-docs-body");
    start.parentNode.insertBefore(top, start);
}"""
_RUN_TRACES = ("papermill", "execution", "collapsed", "scrolled")


def project_root(start: str | Path | None = None) -> Path:
    """Checkout that holds the book's sources.

    Parameters
    ----------
    start : path, optional
        A folder inside the checkout; the working directory, then the package's own, when left out.

    Raises
    ------
    InputError
        No ``_config.yml`` and ``_toc.yml`` there or above.
    """
    starts = [Path(start)] if start is not None else [Path.cwd(), Path(__file__)]
    for first in starts:
        here = first.resolve()
        for folder in (here, *here.parents):
            if (folder / "_config.yml").is_file() and (folder / "_toc.yml").is_file():
                return folder
    raise InputError(f"{starts[0]}: no _config.yml and _toc.yml here or above; run it in a checkout of the project")


def build_book(
    executed_dir: str | Path,
    out: str | Path,
    profile: str,
    seed: int,
    *,
    source: str | Path | None = None,
    timeout: int = 900,
) -> Path:
    """Build the pages from executed notebooks; nothing is executed and nothing is fetched.

    Parameters
    ----------
    executed_dir : path
        Folder of executed notebooks, as `run_notebooks` leaves it (``results/<profile>/notebooks``).
        Tables and CIF files are taken from the folder above it.
    out : path
        Folder of the pages; replaced as a whole once the build has passed.
    profile, seed : str, int
        What the footer of each page says; the notebooks must come from this run.
    source : path, optional
        Checkout with ``_config.yml``, ``_toc.yml`` and ``book/``.
    timeout : int
        Seconds that the build may take.

    Returns
    -------
    Path
        ``out/index.html``.

    Raises
    ------
    InputError
        There are no executed notebooks, or they come from another profile or seed.
    ComputationError
        Sphinx gave a warning or an error; the lines are in the message, ``out`` is as before.
    """
    root = project_root(source)
    out = Path(out).resolve()
    stage = stage_book(executed_dir, out.parent / "book_src", profile, seed, source=root)
    built = _jupyter_book(stage, "html", timeout)
    if not (built / "index.html").is_file():
        raise ComputationError(f"{built}: the build left no index.html; look at {stage}")
    _replace_folder(built, out)
    return out / "index.html"


def stage_book(
    executed_dir: str | Path, stage: str | Path, profile: str, seed: int, *, source: str | Path | None = None
) -> Path:
    """Lay out in ``stage`` all that Jupyter Book reads; the folder is made anew.

    Raises
    ------
    InputError
        There are no executed notebooks, or they come from another profile or seed.
    """
    root, stage, executed = project_root(source), Path(stage).resolve(), Path(executed_dir).resolve()
    notebooks = sorted(executed.glob("[0-9]*.ipynb"))
    if not notebooks:
        raise InputError(f"{executed}: no executed notebooks; run `make reproduce PROFILE={profile}` first")
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(root / "book", stage / "book", ignore=shutil.ignore_patterns("_generated", ".*"))
    for name in ("_toc.yml", "CHANGELOG.md"):
        shutil.copy(root / name, stage / name)
    config = stage_config(read_yaml(root / "_config.yml"), profile, seed)
    (stage / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (stage / "notebooks").mkdir()
    for path in notebooks:
        write_notebook(clean_notebook(path, profile, seed), stage / "notebooks" / path.name)
    for name in PUBLISHED_FOLDERS:
        if (executed.parent / name).is_dir():
            shutil.copytree(executed.parent / name, stage / "results" / name)
    for numbers in sorted(executed.parent.glob("[0-9]*.json")):
        (stage / "results").mkdir(exist_ok=True)
        shutil.copy(numbers, stage / "results" / numbers.name)
    for data in (root / "nanh2lib" / "data" / name for name in DATASET_FILES):
        if data.is_file():
            (stage / "nanh2lib" / "data").mkdir(parents=True, exist_ok=True)
            shutil.copy(data, stage / "nanh2lib" / "data" / data.name)
    shutil.copy(nglview_script(), stage / "book" / "_static" / "vendor" / "nglview-js-widgets.js")
    write_generated_pages(stage, profile)
    (stage / "book" / GENERATED / "chapters.md").write_text(chapter_list(notebooks), encoding="utf-8")
    return stage


def stage_config(config: Mapping[str, Any], profile: str, seed: int) -> dict[str, Any]:
    """The book's configuration with execution off and the run named in the footer of each page."""
    staged = json.loads(json.dumps(config))  # a deep copy of plain YAML values
    staged.setdefault("execute", {})["execute_notebooks"] = "off"
    footer = f'<p class="run-footer">{html.escape(run_of(profile, seed))}</p>'
    staged["sphinx"]["config"]["html_theme_options"]["extra_footer"] = footer
    return dict(staged)


def run_of(profile: str, seed: int) -> str:
    """What the foot of a page, and the title of the printed book, say of the numbers."""
    return f"Run: profile {profile}, seed {seed}, nanh2lib {package_version()}"


def clean_notebook(path: str | Path, profile: str, seed: int) -> Any:
    """Executed notebook without the traces of the machine that ran it.

    The cell that papermill injected gets the tag ``remove-cell``; its values go into the parameters
    cell, so that the page shows those of the run. Metadata of the run (folders, times) and what was
    written to stderr are left out.

    Raises
    ------
    InputError
        The notebook was not made by `run_notebooks`, or by another profile or seed.
    """
    nbformat = import_book_package("nbformat")
    notebook = nbformat.read(str(path), as_version=4)
    run = notebook.metadata.get(RUN_METADATA)
    if run is None:
        raise InputError(f"{path}: not an executed notebook of a run; make it with `nanh2 reproduce`")
    if (run["profile"], run["seed"]) != (profile, seed):
        raise InputError(
            f"{path}: made with profile {run['profile']}, seed {run['seed']}, not {profile}, {seed}; run it again"
        )
    notebook.metadata = nbformat.from_dict(_without(notebook.metadata, (*_RUN_TRACES, RUN_METADATA)))
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(_without(cell.metadata, _RUN_TRACES))
        if cell.cell_type == "code":  # warnings and progress bars name files of the machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    _show_parameters_of_the_run(notebook.cells)
    return notebook


def _show_parameters_of_the_run(cells: list[Any]) -> None:
    tagged = {tag: cell for cell in cells for tag in cell.metadata.get("tags", [])}
    injected = tagged.get("injected-parameters")
    if injected is None:
        return
    injected.metadata["tags"] = [*injected.metadata["tags"], "remove-cell"]
    if "parameters" in tagged:
        tagged["parameters"].source = injected.source.removeprefix("# Parameters\n").strip()


def nglview_script() -> Path:
    """The JavaScript of live views, from nglview's own wheel: it always fits the Python side.

    Raises
    ------
    MissingDependencyError
        nglview is not installed.
    """
    try:
        installed = files("nglview") or []
    except PackageNotFoundError as error:
        raise MissingDependencyError("nglview is not installed; pip install 'nanh2lib[book]'") from error
    for entry in installed:
        if entry.as_posix().endswith(_NGLVIEW_SCRIPT):
            return Path(str(entry.locate())).resolve()
    raise MissingDependencyError(f"nglview is installed without {_NGLVIEW_SCRIPT}; reinstall its wheel")


def print_pdf(
    executed_dir: str | Path,
    out: str | Path,
    profile: str,
    seed: int,
    *,
    source: str | Path | None = None,
    timeout: int = 900,
) -> Path:
    """Print the whole book into one PDF: one long page, then the system's Chromium.

    Parameters
    ----------
    executed_dir, profile, seed, source, timeout
        As for `build_book`.
    out : path
        The PDF file.

    Returns
    -------
    Path

    Raises
    ------
    MissingDependencyError
        No Chromium is on the path.
    ComputationError
        The build or the printing failed.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise MissingDependencyError("no chromium on the path; install it (Debian: apt-get install chromium)")
    out = Path(out).resolve()
    stage = stage_book(executed_dir, out.parent / "pdf_src", profile, seed, source=source)
    _without_live_views(stage / "_config.yml")
    folder = _jupyter_book(stage, "singlehtml", timeout)
    # The builder writes the page below book/ with addresses as seen from the top.
    page = Path(shutil.copy(folder / "book" / "index.html", folder / "book.html"))
    temporary = out.with_name(f".{out.name}.tmp.pdf")
    playwright = import_book_package("playwright.sync_api")
    try:
        with playwright.sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            tab = chromium.new_page()
            tab.set_default_timeout(timeout * 1000)
            tab.goto(page.as_uri(), wait_until="load")
            tab.wait_for_function("window.MathJax?.startup?.promise !== undefined")
            tab.evaluate("MathJax.startup.promise.then(() => true)")
            tab.add_style_tag(content=_PAPER)
            tab.evaluate(_FOR_PAPER, [read_yaml(stage / "_config.yml")["title"], run_of(profile, seed)])
            tab.pdf(path=str(temporary), format="A4", margin=_MARGIN, print_background=True, tagged=True, outline=True)
            chromium.close()
    except playwright.Error as error:
        raise ComputationError(f"printing {page} failed: {error.message.splitlines()[0]}") from error
    os.replace(temporary, out)
    return out


def _without_live_views(config_file: Path) -> None:
    """Paper shows the pictures; one page with the views of all notebooks is more than a browser draws."""
    config = read_yaml(config_file)
    config["sphinx"]["config"]["nb_ipywidgets_js"] = {}
    config_file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _without(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _jupyter_book(stage: Path, builder: str, timeout: int) -> Path:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(stage), *BOOK_COMMAND, "--builder", builder]
    try:
        run = subprocess.run(
            command,
            cwd=stage,
            env={**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ComputationError(f"building the book took more than {timeout} s; look at {stage}") from error
    log = stage.parent / f"{stage.name}.log"
    log.write_text(run.stdout + run.stderr, encoding="utf-8")
    if run.returncode != 0:
        raise ComputationError(
            f"the book does not build without a warning (all of it in {log}):\n{complaints(run.stdout + run.stderr)}"
        )
    return stage / "_build" / builder


def complaints(log: str, limit: int = 30) -> str:
    """Warnings and errors of a build log, or its last lines where it has none."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in log.splitlines()]
    found = list(dict.fromkeys(line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|Error:", line)))
    return "\n".join(found[:limit] or lines[-limit:])


def _replace_folder(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; at no time does a half-written folder bear its name."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)
