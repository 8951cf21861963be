"""Duplicates of the shipped dataset: how long they take, and whether the prescreen changes the groups.

    python -m benchmarks.bench_duplicates

All 1000 crystals as relaxed in the fixed cell (CHGNet) are grouped with the prescreen and timed. Of 200 of them, spread
evenly over the file, the groups are also found without it: StructureMatcher on every pair whose energies and space
groups do not already make them different crystals. The groups of these 200 are kept by id, so that a test can compute
some of them again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanh2lib.files import write_atomically
from nanh2lib.ranking import DuplicateSettings, group_duplicates
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.settings import package_version
from nanh2lib.store.dataset import load_dataset, read_manifest

RESULTS = Path(__file__).resolve().parent / "results" / "duplicates.json"
SAMPLE = 200


def relaxed_entries() -> list[tuple[str, RelaxationResult]]:
    """Id and relaxation in the fixed cell of every usable entry, in the order of the file."""
    entries: Sequence[Candidate] = load_dataset()
    return [(entry.id, entry.relaxed_fixed) for entry in entries if entry.relaxed_fixed and entry.relaxed_fixed.usable]


def sample(entries: list[tuple[str, RelaxationResult]]) -> list[tuple[str, RelaxationResult]]:
    """``SAMPLE`` entries, evenly spread."""
    return [entries[i * len(entries) // SAMPLE] for i in range(SAMPLE)]


def groups(entries: list[tuple[str, RelaxationResult]], *, prescreen: bool) -> tuple[dict[str, str], float]:
    """Representative of each crystal by id, and the seconds that took (wall clock, one process)."""
    begin = time.perf_counter()
    owner = group_duplicates(
        [result.structure for _, result in entries], [result.energy_final for _, result in entries], prescreen=prescreen
    )
    seconds = time.perf_counter() - begin
    return {entries[i][0]: entries[j][0] for i, j in enumerate(owner)}, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out: Path = parser.parse_args().out
    entries = relaxed_entries()
    everything, seconds = groups(entries, prescreen=True)
    some = sample(entries)
    quick, quick_seconds = groups(some, prescreen=True)
    full, full_seconds = groups(some, prescreen=False)
    result: dict[str, Any] = {
        "command": "python -m benchmarks.bench_duplicates",
        "config": DuplicateSettings().model_dump(mode="json"),
        "dataset_sha256": read_manifest()["sha256"],
        "crystals": {
            "structures": len(entries), "different": len(set(everything.values())), "seconds": round(seconds, 1),
        },
        "sample": {
            "structures": len(some), "different": len(set(full.values())), "seconds": round(quick_seconds, 1),
            "seconds_without_prescreen": round(full_seconds, 1), "same_groups": quick == full,
            "groups_without_prescreen": full,
        },
        "machine": f"{platform.machine()}, one process",
        "date": datetime.date.today().isoformat(),
        "version": package_version(),
    }  # fmt: skip
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(result["crystals"], {k: v for k, v in result["sample"].items() if k != "groups_without_prescreen"})


if __name__ == "__main__":
    main()
