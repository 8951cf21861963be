"""The README's Python example runs, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

from nanh2lib.cli.app import run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102  (our own README is what is tested)
    out = capsys.readouterr().out
    assert "('f', 'g') 335" in out
    assert "Fddd (Z = 16)" in out
    assert "S2 P2/c 16" in out


def test_the_picture_is_there():
    (path,) = re.findall(r"!\[[^\]]{40,}\]\(([^)]+)\)", README)
    assert (ROOT / path).stat().st_size > 10_000


def test_every_command_in_the_text_exists(capsys):
    names = set(re.findall(r"`nanh2 ([a-z]+)", README))
    assert {"search", "train", "reproduce"} <= names
    for name in names:
        assert run([name, "--help"]) == 0
        assert "Example" in capsys.readouterr().out


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)
