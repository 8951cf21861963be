"""What a notebook of the book may hold: short cells, no logic, no outputs, one parameters cell."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat

MAX_CELL_LINES = 15
MAX_FUNCTION_LINES = 10
MAX_FUNCTIONS = 1
MIN_EXERCISES = 3
PARAMETERS = {"PROFILE", "SEED", "RESULTS_DIR"}
SECTIONS = {
    "aim": r"\baim\b",
    "needs": r"\bneed",
    "time": r"\bminutes?\b|\bseconds?\b",
    "check": r"\bcheck\b",
    "exercises": r"\bexercises?\b",
    "next": r"\bnext\b",
}
_LOGIC = (ast.ClassDef, ast.AsyncFunctionDef, ast.While, ast.Try, ast.Global)


def complaints(path: Path) -> list[str]:
    """All the ways in which a notebook breaks the rules, one line each."""
    notebook = nbformat.read(str(path), as_version=4)
    lines = _parameter_complaints(notebook.cells)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            lines += [f"cell {number}: {complaint}" for complaint in _cell_complaints(cell)]
    functions = sum(len(_functions(cell)) for cell in notebook.cells if cell.cell_type == "code")
    if functions > MAX_FUNCTIONS:
        lines.append(f"{functions} functions are defined, at most {MAX_FUNCTIONS}: logic belongs into the package")
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    lines += _exercise_complaints(notebook.cells)
    lines += [f"no {name} in the text" for name, pattern in SECTIONS.items() if not re.search(pattern, prose, re.I)]
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        lines.append("its kernel is not python3")
    return lines


def _exercise_complaints(cells: list[Any]) -> list[str]:
    """Three exercises or more, each with its solution folded; a solution in code is run with the page."""
    titles = [k for k, cell in enumerate(cells) if re.search(r"^## Exercises", cell.source, re.M)]
    if len(titles) != 1:
        return [f"{len(titles)} sections called Exercises, expected 1"]
    part = cells[titles[0] :]
    exercises = sum(len(re.findall(r"^\*\*\d+\.\*\*", cell.source, re.M)) for cell in part)
    code = [cell for cell in part if cell.cell_type == "code"]
    folded = [cell for cell in code if "hide-cell" in cell.metadata.get("tags", [])]
    told = sum(len(re.findall(r"^:::\{dropdown\}", cell.source, re.M)) for cell in part)
    lines = [f"{exercises} exercises, at least {MIN_EXERCISES}"] if exercises < MIN_EXERCISES else []
    lines += [f"{len(code) - len(folded)} solutions are not folded"] if len(folded) < len(code) else []
    lines += ["no solution is run"] if not folded else []
    if len(folded) + told < exercises:
        lines.append(f"{exercises} exercises but {len(folded) + told} solutions")
    return lines


def _parameter_complaints(cells: list[Any]) -> list[str]:
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells tagged parameters, expected 1"]
    names = {
        target.id
        for node in ast.parse(tagged[0].source).body
        for target in getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(target, ast.Name)
    }
    return [] if names == PARAMETERS else [f"the parameters cell sets {sorted(names)}, expected {sorted(PARAMETERS)}"]


def _tree(cell: Any) -> ast.Module:
    """Syntax tree of a cell without IPython's own commands."""
    return ast.parse("\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))))


def _functions(cell: Any) -> list[ast.AST]:
    """Definitions of functions, nameless ones too."""
    return [node for node in ast.walk(_tree(cell)) if isinstance(node, ast.FunctionDef | ast.Lambda)]


def _cell_complaints(cell: Any) -> list[str]:
    found = []
    length = len([line for line in cell.source.splitlines() if line.strip()])
    if length > MAX_CELL_LINES:
        found.append(f"{length} lines, at most {MAX_CELL_LINES}")
    if cell.outputs or cell.execution_count is not None:
        found.append("has outputs; run nbstripout")
    for node in ast.walk(_tree(cell)):
        if isinstance(node, _LOGIC):
            found.append(f"{type(node).__name__} on line {node.lineno}: logic belongs into the package")
        if isinstance(node, ast.FunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MAX_FUNCTION_LINES:
                found.append(f"function {node.name} has {size} lines: more than a plot helper")
        if isinstance(node, ast.For) and any(
            isinstance(inner, ast.For) for inner in ast.walk(node) if inner is not node
        ):
            found.append(f"nested loops on line {node.lineno}: logic belongs into the package")
    return found
