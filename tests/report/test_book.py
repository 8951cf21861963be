"""The book's build, on two small notebooks and a few pages of their own."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
import yaml

from nanh2lib.errors import ComputationError, InputError
from nanh2lib.report.book import build_book, clean_notebook, complaints, nglview_script, project_root, stage_book
from nanh2lib.report.notebooks import run_notebooks
from nanh2lib.settings import package_version
from tests.report.sample_notebooks import code, parameters, write, write_sample_notebooks
from tests.run_book import ROOT

pytestmark = pytest.mark.xdist_group("small book")

PAGE = (
    "# Small book\n\nA page. [](notebooks/01_numbers.ipynb)\n\n```{include} book/_generated/tables/energies.md\n```\n"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Checkout in small: the real configuration, three pages, two executed notebooks."""
    root = tmp_path_factory.mktemp("checkout")
    toc = {"format": "jb-book", "root": "book/index", "chapters": [{"glob": "notebooks/*"}]}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    (root / "CHANGELOG.md").write_text("# Changelog\n")
    (root / "book").mkdir()
    (root / "_config.yml").symlink_to(ROOT / "_config.yml")
    for name in ("_static", "_ext", "references.bib"):
        (root / "book" / name).symlink_to(ROOT / "book" / name)
    (root / "book" / "index.md").write_text(PAGE.replace("notebooks/", "../notebooks/").replace("book/_", "_"))
    run_notebooks(write_sample_notebooks(root / "notebooks"), root / "results" / "smoke", "smoke", 0, progress=False)
    return root


@pytest.fixture(scope="module")
def executed(project):
    return project / "results" / "smoke" / "notebooks"


def stage(project, executed, **changes):
    arguments = {"profile": "smoke", "seed": 0, "source": project, **changes}
    return stage_book(
        executed, project / "_build" / "stage", arguments.pop("profile"), arguments.pop("seed"), **arguments
    )


def test_staging_removes_the_traces_of_the_run(project, executed):
    staged = stage(project, executed)
    for path in sorted((staged / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(str(path), as_version=4)
        assert set(notebook.metadata) <= {"kernelspec", "language_info", "widgets"}
        assert str(project) not in path.read_text(encoding="utf-8")
        injected = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
        assert [cell.metadata["tags"][-1] for cell in injected] == ["remove-cell"]
        assert not any({"papermill", "execution"} & set(cell.metadata) for cell in notebook.cells)


def test_the_page_shows_the_parameters_of_the_run_and_nothing_from_stderr(project, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    noisy = "import sys, json\nprint('noise', file=sys.stderr)\nopen(f'{RESULTS_DIR}/01_noisy.json', 'w').write('[]')"
    write(folder / "01_noisy.ipynb", [parameters(), code(noisy + "\nprint('kept')")])
    (item,) = run_notebooks(folder, tmp_path / "results" / "default", "default", 3, progress=False)
    notebook = clean_notebook(item.path, "default", 3)
    (shown,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert shown.source.splitlines() == ['PROFILE = "default"', "SEED = 3", 'RESULTS_DIR = "../results/default"']
    assert [output.text for cell in notebook.cells for output in cell.outputs] == ["kept\n"]


def test_staging_turns_execution_off_and_says_which_run_it_is(project, executed):
    config = yaml.safe_load((stage(project, executed) / "_config.yml").read_text(encoding="utf-8"))
    assert config["execute"]["execute_notebooks"] == "off"
    footer = config["sphinx"]["config"]["html_theme_options"]["extra_footer"]
    assert f"profile smoke, seed 0, nanh2lib {package_version()}" in footer


def test_staging_brings_nglviews_own_script_and_the_tables_of_the_run(project, executed):
    tables = executed.parent / "tables"
    tables.mkdir(exist_ok=True)
    (tables / "energies.md").write_text("| a |\n|:--|\n| 1 |\n")
    staged = stage(project, executed)
    script = staged / "book" / "_static" / "vendor" / "nglview-js-widgets.js"
    assert script.read_bytes() == nglview_script().read_bytes()
    assert (staged / "book" / "_generated" / "tables" / "energies.md").read_text() == "| a |\n|:--|\n| 1 |\n"
    assert (staged / "results" / "tables" / "energies.md").is_file()
    (tables / "energies.md").unlink()
    missing = stage(project, executed) / "book" / "_generated" / "tables" / "energies.md"
    assert "Not computed in profile `smoke`" in missing.read_text()


def test_notebooks_of_another_run_or_of_none_are_refused(project, executed, tmp_path):
    with pytest.raises(InputError, match="made with profile smoke, seed 0, not default, 0"):
        stage(project, executed, profile="default")
    with pytest.raises(InputError, match="seed 0, not smoke, 7"):
        stage(project, executed, seed=7)
    with pytest.raises(InputError, match="no executed notebooks; run `make reproduce PROFILE=smoke` first"):
        stage(project, tmp_path)
    with pytest.raises(InputError, match="not an executed notebook"):
        clean_notebook(project / "notebooks" / "01_numbers.ipynb", "smoke", 0)


def test_project_root_is_found_from_below_and_missed_outside(project, tmp_path):
    assert project_root(project / "notebooks") == project
    with pytest.raises(InputError, match=r"no _config\.yml"):
        project_root(tmp_path)


@pytest.mark.slow
def test_a_clean_book_is_built_and_a_warning_stops_it_and_keeps_the_old_pages(project, executed):
    out = project / "_build" / "html"
    index = build_book(executed, out, "smoke", 0, source=project)
    assert index == out / "index.html"
    page = (out / "notebooks" / "02_view.html").read_text(encoding="utf-8")
    assert "application/vnd.jupyter.widget-view+json" in page
    assert "profile smoke, seed 0" in page
    assert "injected" not in page
    assert not re.search(r'(src|href)="https?://[^"]*\.(js|css|woff2?)', page)
    assert "unpkg.com" not in page

    text = (project / "book" / "index.md").read_text()
    try:
        (project / "book" / "index.md").write_text(text + "\n[broken](nowhere.md)\n\n{py:func}`nanh2lib.no_such`\n")
        with pytest.raises(ComputationError, match=r"index\.md") as caught:
            build_book(executed, out, "smoke", 0, source=project)
        assert "nowhere.md" in str(caught.value)
        assert "nanh2lib.no_such" in str(caught.value)
    finally:
        (project / "book" / "index.md").write_text(text)
    assert (out / "notebooks" / "02_view.html").read_text(encoding="utf-8") == page


def test_complaints_are_the_warnings_once_each_or_the_last_lines():
    log = "reading\n\x1b[91ma.md:1: WARNING: odd\x1b[0m\na.md:1: WARNING: odd\ndone\n"
    assert complaints(log) == "a.md:1: WARNING: odd"
    assert complaints("one\ntwo") == "one\ntwo"


def test_executed_notebooks_say_which_run_made_them(executed):
    metadata = json.loads((executed / "01_numbers.ipynb").read_text())["metadata"]["nanh2lib"]
    assert (metadata["profile"], metadata["seed"], metadata["package_version"]) == ("smoke", 0, package_version())
