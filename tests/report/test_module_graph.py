"""The module graph is that of the code, and the code keeps to the layers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from nanh2lib.errors import InputError
from nanh2lib.report.module_graph import draw_module_graph, import_graph, levels, without_shortcuts

ROOT = Path(__file__).resolve().parent.parent.parent
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
LAYERS = [re.findall(r"\w+", layer) for layer in CONTRACT["layers"]]
"""From the top; several names in one layer are siblings."""


def package(folder: Path, **modules: str) -> Path:
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return folder


def test_every_part_of_the_package_has_a_place_in_the_contract():
    assert set(import_graph()) <= {name for layer in LAYERS for name in layer}


def test_imports_point_to_lower_layers_only():
    height = {name: -index for index, layer in enumerate(LAYERS) for name in layer}
    upward = [
        (part, low) for part, imported in import_graph().items() for low in imported if height[low] >= height[part]
    ]
    assert upward == []


def test_all_forms_of_import_count_also_inside_functions(tmp_path):
    folder = package(
        tmp_path,
        __init__="from nanh2lib import a",
        a="import nanh2lib.b\ndef f():\n    from nanh2lib.c.d import g\n",
        b="from nanh2lib import e",
        e="import os, nanh2library",
    )
    (folder / "c").mkdir()
    (folder / "c" / "d.py").write_text("from nanh2lib.c import x")
    graph = import_graph(folder)
    assert graph == {"a": {"b", "c"}, "b": {"e"}, "c": set(), "e": set()}
    assert levels(graph) == {"a": 2, "b": 1, "c": 0, "e": 0}


def test_shortcuts_are_left_out_and_circles_are_named():
    graph = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    assert without_shortcuts(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}
    with pytest.raises(InputError, match="a -> b -> a"):
        levels({"a": frozenset("b"), "b": frozenset("a")})


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no Python modules"):
        import_graph(tmp_path)


def test_drawing_is_the_same_each_time_and_names_each_part(tmp_path):
    graph = {"top": frozenset({"middle", "ground"}), "middle": frozenset({"ground"}), "ground": frozenset()}
    first = draw_module_graph(tmp_path / "one.svg", graph).read_bytes()
    assert first == draw_module_graph(tmp_path / "two.svg", graph).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.svg", "two.svg"]
    assert all(f"<!-- {part} -->".encode() in first for part in graph)
