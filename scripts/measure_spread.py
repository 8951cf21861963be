"""Measure how much each number of the notebooks varies over seeds; golden tolerances are shares of that.

    for s in 1 2; do .venv/bin/nanh2 reproduce --profile smoke --seed $s --run results/spread-$s; done
    .venv/bin/python scripts/measure_spread.py results/smoke results/spread-1 results/spread-2

The first line, repeated, goes on where it was stopped. The second writes every number that all of the runs have,
by notebook and place, one value a seed, to ``tests/golden/spread/<profile>.json``, and says what the golden files then
allow. Notebooks that some run lacks keep what was measured for them before.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nanh2lib.files import write_atomically  # noqa: E402
from tests.golden_values import leaves, read_golden, rule_for, spread_file, tolerance_for  # noqa: E402


def main(runs: list[Path]) -> None:
    if len(runs) < 2:
        sys.exit("measure_spread: a spread takes two runs or more with different seeds; give their folders")
    names = [
        path.stem for path in sorted(runs[0].glob("[0-9]*.json")) if all((run / path.name).exists() for run in runs)
    ]
    read = {name: [json.loads((run / f"{name}.json").read_text(encoding="utf-8")) for run in runs] for name in names}
    profiles = {data["profile"] for found in read.values() for data in found}
    seeds = [{data["seed"] for data in found} for found in zip(*read.values(), strict=True)]
    if len(profiles) != 1 or any(len(seed) != 1 for seed in seeds) or len(set.union(*seeds)) != len(runs):
        sys.exit(
            f"measure_spread: profiles {sorted(profiles)}, seeds {seeds}: one profile, and another seed for each run"
        )
    path = spread_file(profiles.pop())
    before = json.loads(path.read_text(encoding="utf-8"))["notebooks"] if path.exists() else {}
    measured = {name: numbers_of(found) for name, found in read.items()}
    order = [seed for (seed,) in seeds]
    write_atomically(path, text_of(order, {**before, **measured}).encode())
    for name, places in measured.items():
        varying = sum(max(values) > min(values) for values in places.values())
        print(f"{name}: {len(places)} numbers, {varying} of them differ between seeds {order}")
        for line in allowances(path.stem, name):
            print(f"  {line}")


def allowances(profile: str, name: str) -> list[str]:
    """What the golden file now allows at each place whose tolerance is a share of the spread."""
    golden = read_golden(profile, name)
    return [
        f"{place}: {value!r} +- {tolerance_for(place, golden)['abs']:.3g}"
        for place, value in leaves(golden["values"])
        if "share" in rule_for(place, golden)
    ]


def numbers_of(found: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Values by place, for places that hold a finite number in every run; ``seed`` itself is none of them."""
    flat = [dict(leaves(data)) for data in found]
    return {
        place: [data[place] for data in flat]
        for place in flat[0]
        if place != "seed" and all(is_number(data.get(place)) for data in flat)
    }


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def text_of(seeds: list[int], notebooks: dict[str, dict[str, list[float]]]) -> str:
    """JSON with one line for each number."""
    parts = []
    for name, places in sorted(notebooks.items()):
        lines = ",\n".join(
            f"   {json.dumps(place, ensure_ascii=False)}: {json.dumps(v)}" for place, v in places.items()
        )
        parts.append(f"  {json.dumps(name)}: {{\n{lines}\n  }}")
    return f'{{\n "seeds": {json.dumps(seeds)},\n "notebooks": {{\n' + ",\n".join(parts) + "\n }\n}\n"


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
