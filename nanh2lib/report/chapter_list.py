"""The preface's list of notebooks: title, aim, minutes to read, and the seconds that the run took."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from nanh2lib.report.notebooks import RUN_METADATA


def chapter_list(notebooks: Iterable[Path]) -> str:
    """List (MyST) with an entry for each executed notebook, in reading order.

    Parameters
    ----------
    notebooks : iterable of path
        As `nanh2lib.report.notebooks.run_notebooks` leaves them: the first cell holds title, **Aim.** and **Time.**,
        the metadata the seconds of the run.
    """
    lines = []
    for path in sorted(notebooks):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        opening = "".join(notebook["cells"][0]["source"])
        title = re.search(r"^# (.+)$", opening, re.M)
        seconds = notebook["metadata"].get(RUN_METADATA, {}).get("seconds")
        minutes = re.split(r" to read|[.,]", _paragraph(opening, "Time"))[0]
        took = "" if seconds is None else f", {seconds:.0f}\N{NO-BREAK SPACE}s in this run"
        lines += [
            f"**[{title[1] if title else path.stem}](../notebooks/{path.name})**",
            f": {_paragraph(opening, 'Aim')} *{minutes} to read{took}.*",
            "",
        ]
    return "\n".join(lines)


def _paragraph(opening: str, word: str) -> str:
    """Text of the paragraph that begins with a bold word, on one line; a dash where there is none."""
    found = re.search(rf"\*\*{word}\.\*\*\s+(.+?)(?:\n\s*\n|\Z)", opening, re.S)
    return " ".join(found[1].split()) if found else "–"
