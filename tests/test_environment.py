"""pyproject.toml, constraints.txt, environment.yml and the imports of the package say the same."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT_TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT_TEXT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS_TEXT = (ROOT / "constraints.txt").read_text(encoding="utf-8")
CONSTRAINTS = {
    canonicalize_name(name): pinned for name, pinned in re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS_TEXT, flags=re.M)
}
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]


def requirements(extra: str | None = None) -> list[Requirement]:
    lines = PROJECT["dependencies"] if extra is None else EXTRAS[extra]
    return [Requirement(line) for line in lines]


ALL_REQUIREMENTS = [r for e in (None, "dft", "scale", "book", "dev") for r in requirements(e) if r.name != "nanh2lib"]


def expanded(extra: str) -> set[str]:
    """Names in an extra, extras of ours followed."""
    names: set[str] = set()
    for requirement in requirements(extra):
        if requirement.name == "nanh2lib":
            for inner in requirement.extras:
                names |= expanded(inner)
        else:
            names.add(requirement.name)
    return names


@pytest.mark.parametrize("requirement", ALL_REQUIREMENTS, ids=lambda r: r.name)
def test_each_dependency_is_pinned_within_its_range(requirement):
    pinned = CONSTRAINTS.get(canonicalize_name(requirement.name))
    assert pinned is not None, f"{requirement.name} has no line in constraints.txt: run scripts/make_constraints.py"
    assert requirement.specifier.contains(pinned, prereleases=True)


def test_constraints_are_exact_versions_of_packages_and_nothing_else():
    lines = [line for line in CONSTRAINTS_TEXT.splitlines() if line and not line.startswith("#")]
    odd = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line)]
    assert odd == []
    assert len(lines) == len(CONSTRAINTS)


def test_torch_is_the_version_that_was_agreed():
    assert CONSTRAINTS["torch"] == "2.13.0"


def test_all_is_everything_but_dft():
    everything = set().union(*(expanded(extra) for extra in EXTRAS if extra not in ("dft", "all")))
    assert expanded("all") == everything
    assert not expanded("all") & expanded("dft")


def test_a_reason_stands_beside_each_dependency():
    block = PYPROJECT_TEXT.split("dependencies = [", 1)[1].split("[project.scripts]")[0]
    bare = [
        line.strip()
        for line in block.splitlines()
        if re.match(r'\s+"', line)
        and "#" not in line
        and not re.search(r"nanh2lib|pytest|mypy|ruff|types-|stubs", line)
    ]
    assert bare == []


def test_conda_environment_takes_gpaw_from_conda_and_the_rest_from_the_extra_all():
    conda = {
        Requirement(re.sub(r"(?<![<>=!~])=(?!=)", "==", line)).name: line for line in CONDA if isinstance(line, str)
    }
    pip = next(entry["pip"] for entry in CONDA if isinstance(entry, dict))
    python = conda["python"].removeprefix("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert "-e .[all]" in pip
    assert "-c constraints.txt" in pip
    for requirement in requirements("dft"):
        assert conda[requirement.name] == str(requirement)


def test_python_of_linters_is_the_lowest_supported():
    tools = tomllib.loads(PYPROJECT_TEXT)["tool"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert tools["ruff"]["target-version"] == "py311"
    assert tools["mypy"]["python_version"] == "3.11"


def imported_packages(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"nanh2lib"}


def test_every_import_of_the_package_is_a_declared_dependency():
    declared = {canonicalize_name(requirement.name) for requirement in ALL_REQUIREMENTS}
    providers = packages_distributions()
    undeclared = {
        name
        for name in imported_packages(ROOT / "nanh2lib")
        if not {canonicalize_name(provider) for provider in providers.get(name, [name])} & declared
    }
    assert undeclared == set()


@pytest.mark.skipif(os.environ.get("CI", "").lower() not in ("1", "true"), reason="only CI must use the exact versions")
@pytest.mark.parametrize("requirement", ALL_REQUIREMENTS, ids=lambda r: r.name)
def test_ci_uses_the_pinned_versions(requirement):
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        pytest.fail(f"{requirement.name} is not installed")
    assert installed.split("+")[0] == CONSTRAINTS[canonicalize_name(requirement.name)]
