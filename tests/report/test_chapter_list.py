"""The preface lists the notebooks with what stands in them."""

from __future__ import annotations

import json

from nanh2lib.report.chapter_list import chapter_list
from nanh2lib.report.notebooks import RUN_METADATA
from tests.run_book import ROOT

OPENING = "# 1 Sums\n\n**Aim.** Count\nto | three.\n\n**Time.** Two minutes to read, one to run.\n"


def notebook(folder, name, text, **run):
    path = folder / name
    path.write_text(json.dumps({"cells": [{"source": [text]}], "metadata": {RUN_METADATA: run}}), encoding="utf-8")
    return path


def test_a_row_holds_title_aim_minutes_and_seconds(tmp_path):
    paths = [notebook(tmp_path, "02_b.ipynb", "# 2 Bare"), notebook(tmp_path, "01_a.ipynb", OPENING, seconds=12.4)]
    first, second = chapter_list(paths).splitlines()[2:]
    assert (
        first == "| [1 Sums](../notebooks/01_a.ipynb) | Count to \\| three. | two minutes | 12\N{NO-BREAK SPACE}s |"
    )
    assert second == "| [2 Bare](../notebooks/02_b.ipynb) | – | – | – |"


def test_each_of_the_books_notebooks_says_what_it_is_for_and_how_long_it_takes():
    rows = chapter_list((ROOT / "notebooks").glob("[0-9]*.ipynb")).splitlines()[2:]
    assert len(rows) == 10
    for row in rows:
        title, aim, minutes, _ = row.removeprefix("| ").split(" | ")
        assert len(aim) > 40, title
        assert minutes.endswith(("minutes", "hour")), title
