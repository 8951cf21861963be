"""The book's notebooks as regression tests: rules, numbers, and proof that the comparison can turn red."""

from __future__ import annotations

import copy
import json
import math

import nbformat
import pytest

from nanh2lib.report.notebooks import check_parameters
from tests.golden_values import differences, leaves, read_golden, tolerance_for
from tests.notebook_rules import complaints
from tests.run_book import PROFILE, ROOT, SEED

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
MAX_LIVE_VIEWS = 4
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_rules_of_the_house(path):
    assert complaints(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_parameters_cell_fits_the_runner(path):
    check_parameters(path, {"PROFILE": PROFILE, "SEED": SEED, "RESULTS_DIR": "."})


def test_each_notebook_has_golden_numbers_and_each_golden_file_a_notebook():
    golden = sorted(path.stem for path in (ROOT / "tests" / "golden" / PROFILE).glob("*.json"))
    assert golden == NAMES


@pytest.mark.slow
@pytest.mark.xdist_group("book")
@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_golden_ones(name, smoke):
    found = json.loads((smoke.results / f"{name}.json").read_text(encoding="utf-8"))
    assert differences(found, read_golden(PROFILE, name)) == []


@pytest.mark.slow
@pytest.mark.xdist_group("book")
@pytest.mark.parametrize("name", NAMES)
def test_executed_notebook_has_no_error_few_views_and_no_machine_path(name, smoke):
    path = smoke.notebooks / f"{name}.ipynb"
    notebook = nbformat.read(str(path), as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert sum(VIEW in output.get("data", {}) for output in outputs) <= MAX_LIVE_VIEWS
    assert str(ROOT) not in json.dumps([[cell.source, cell.get("outputs", [])] for cell in notebook.cells])


@pytest.mark.parametrize("name", NAMES)
def test_every_single_changed_number_turns_the_comparison_red(name):
    golden = read_golden(PROFILE, name)
    numbers = [
        (place, value)
        for place, value in leaves(golden["values"])
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    assert numbers, "a notebook without numbers tests nothing"
    for place, value in numbers:
        tolerance = tolerance_for(place, golden)
        allowed = tolerance.get("abs", 0) + abs(value) * tolerance.get("rel", 0)
        step = math.inf if tolerance.get("any") else 1.1 * allowed + 1e-6
        assert differences(_changed(golden["values"], place, value + step), golden), place


@pytest.mark.parametrize("name", NAMES)
def test_a_deleted_or_added_number_turns_the_comparison_red(name):
    golden = read_golden(PROFILE, name)
    place = next(iter(leaves(golden["values"])))[0].split(".")[0]
    fewer = {key: value for key, value in golden["values"].items() if key != place}
    assert differences(fewer, golden)
    assert differences({**golden["values"], "added": 1.0}, golden)


def _changed(values, place, new):
    """Copy with one leaf replaced; keys may contain dots, so the way is searched."""
    changed = copy.deepcopy(values)

    def walk(node, prefix):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, inner in pairs:
            here = f"{prefix}.{key}" if prefix else str(key)
            if here == place:
                node[key] = new
                return
            if isinstance(inner, dict | list):
                walk(inner, here)

    walk(changed, "")
    return changed
