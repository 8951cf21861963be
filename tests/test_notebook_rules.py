"""The rules for notebooks notice what they forbid."""

from __future__ import annotations

import nbformat
import pytest

from tests.notebook_rules import complaints
from tests.run_book import ROOT

GOOD = ROOT / "notebooks" / "09_your_own_compound.ipynb"


def _solutions(notebook):
    return [cell for cell in notebook.cells if "hide-cell" in cell.metadata.get("tags", [])]


def _unfold(notebook):
    _solutions(notebook)[0].metadata["tags"] = []


def _drop_solution(notebook):
    notebook.cells.remove(_solutions(notebook)[0])


def _drop_exercises(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("**3.**", "3.").replace("**4.**", "4.")


def _print_output(notebook):
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.outputs = [nbformat.v4.new_output("stream", text="7")]


def _add_logic(notebook):
    notebook.cells.insert(3, nbformat.v4.new_code_cell("while False:\n    pass"))


def _add_functions(notebook):
    notebook.cells.insert(3, nbformat.v4.new_code_cell("def twice(x):\n    return 2 * x\n\n\nhalf = lambda x: x / 2"))


def _add_long_function(notebook):
    lines = [f"    x += {k}" for k in range(10)]
    notebook.cells.insert(3, nbformat.v4.new_code_cell("\n".join(["def longer(x):", *lines, "    return x"])))


def _add_long_cell(notebook):
    notebook.cells.insert(3, nbformat.v4.new_code_cell("\n".join(f"x{k} = {k}" for k in range(16))))


def _add_parameter(notebook):
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += "\nCOUNT = 3"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_unfold, "not folded"),
        (_drop_solution, "4 exercises but 3 solutions"),
        (_drop_exercises, "2 exercises, at least 3"),
        (_print_output, "has outputs"),
        (_add_logic, "While on line 1"),
        (_add_functions, "2 functions are defined"),
        (_add_long_function, "function longer has 12 lines"),
        (_add_long_cell, "16 lines, at most 15"),
        (_add_parameter, "the parameters cell sets"),
    ],
)
def test_a_broken_rule_is_named(change, said, tmp_path):
    assert complaints(GOOD) == []
    notebook = nbformat.read(str(GOOD), as_version=4)
    change(notebook)
    path = tmp_path / GOOD.name
    nbformat.write(notebook, str(path))
    assert any(said in complaint for complaint in complaints(path))
