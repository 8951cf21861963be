"""Validity of raw samples alone, for templates on which nothing is relaxed: validity.json."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.search_efficiency.judged import judged_template
from benchmarks.search_efficiency.proposals import Proposer
from nanh2lib.pipeline.run import read_json, write_json
from nanh2lib.pipeline.validity import validity

FILE = "validity.json"


def judge_raw_samples(results: Path, proposer: Proposer, template: str, count: int, seed: int) -> dict[str, Any]:
    """Draw, pass through both filters at the full limits and at 0.7 of them, and keep the counts.

    Parameters
    ----------
    results : Path
        Folder of the tables; a row of the same method, variant, template and seed is replaced.
    proposer : Proposer
    template : str
        Name of a judged template.
    count, seed : int

    Returns
    -------
    dict
        The row.
    """
    begin = time.process_time()
    found = validity(proposer.draw(judged_template(template), count, seed))
    row = {
        "method": f"{proposer.method}{' held out' if proposer.held_out else ''}",
        "template": template,
        "seed": seed,
        "drawn": found.crystals,
        "valid": found.passed[1.0],
        "valid_at_0.7": found.passed[0.7],
        "valid_percent": round(found.share(1.0), 2),
        "failed_checks": found.failed,
        "cpu_seconds": round(time.process_time() - begin, 1),
        "settings": proposer.describe,
    }
    path = results / FILE
    rows = read_json(path)["rows"] if path.exists() else []
    same = ("method", "template", "seed", "settings")
    others = [other for other in rows if any(other[key] != row[key] for key in same)]
    write_json(path, {"rows": [*others, row]})
    return row
