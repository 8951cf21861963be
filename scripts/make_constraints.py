"""Write constraints.txt: the exact versions, in this environment, of everything that pyproject.toml leads to.

Run it in an environment that passes the tests: ``.venv/bin/python scripts/make_constraints.py``. Packages of the
extra ``dft`` that are not installed keep the version that the file already has.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "constraints.txt"
HEADER = """# Exact versions that CI uses, for Python 3.11 and newer: `pip install -c constraints.txt -e '.[all]'`.
# Made by scripts/make_constraints.py from an environment that passed the tests.
"""


def wanted(pyproject: dict[str, object]) -> list[str]:
    """Requirement lines of the project and all its extras, without those on itself."""
    project = pyproject["project"]
    assert isinstance(project, dict)
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += [line for line in extra if not line.startswith("nanh2lib")]
    return lines


def closure(lines: list[str], kept: dict[str, str]) -> dict[str, str]:
    """Version by canonical name of the packages and of all that they need here."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in lines]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted_extra in {"", *requirement.extras}:
            if (name, wanted_extra) in seen:
                continue
            seen.add((name, wanted_extra))
            try:
                found = distribution(name)
            except PackageNotFoundError:
                if name in kept:
                    versions[name] = kept[name]
                    continue
                raise
            versions[name] = found.version.split("+")[0]  # no +cpu: the build is the Makefile's choice
            todo += [(Requirement(line), wanted_extra) for line in found.requires or []]
    return versions


def read_constraints(path: Path) -> dict[str, str]:
    """Versions by canonical name, of a file that may not exist yet."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {canonicalize_name(n): v for n, v in re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.M)}


def main() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    versions = closure(wanted(pyproject), read_constraints(TARGET))
    body = "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))
    temporary = TARGET.with_suffix(".tmp")
    temporary.write_text(HEADER + body, encoding="utf-8")
    temporary.replace(TARGET)


if __name__ == "__main__":
    main()
