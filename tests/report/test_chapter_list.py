"""The preface lists the notebooks with what stands in them."""

from __future__ import annotations

import json

from nanh2lib.report.chapter_list import chapter_list
from nanh2lib.report.notebooks import RUN_METADATA
from tests.run_book import ROOT

OPENING = "# 1 Sums\n\n**Aim.** Count\nto three.\n\n**Time.** Two minutes to read, one to run.\n"


def notebook(folder, name, text, **run):
    path = folder / name
    path.write_text(json.dumps({"cells": [{"source": [text]}], "metadata": {RUN_METADATA: run}}), encoding="utf-8")
    return path


def test_an_entry_holds_title_aim_minutes_and_seconds(tmp_path):
    paths = [notebook(tmp_path, "02_b.ipynb", "# 2 Bare"), notebook(tmp_path, "01_a.ipynb", OPENING, seconds=12.4)]
    lines = chapter_list(paths).splitlines()
    assert lines[0] == "**[1 Sums](../notebooks/01_a.ipynb)**"
    assert lines[1] == ": Count to three. *Two minutes to read, 12\N{NO-BREAK SPACE}s in this run.*"
    assert lines[3:5] == ["**[2 Bare](../notebooks/02_b.ipynb)**", ": – *– to read.*"]


def test_each_of_the_books_notebooks_says_what_it_is_for_and_how_long_it_takes():
    entries = chapter_list((ROOT / "notebooks").glob("[0-9]*.ipynb")).split("\n\n")[:10]
    assert len(entries) == 10
    for entry in entries:
        title, aim = entry.strip().split("\n")
        assert len(aim) > 60, title
        assert aim.endswith(("minutes to read.*", "hour to read.*")), title
