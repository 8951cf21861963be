"""Speed of the paper model's guided sampling: T steps beside fast solvers, through decoding and both filters.

    python -m benchmarks.bench_paper_sampler [--count 1000] [--repeats 3]

The model that ships draws ``count`` guided samples on templates of its training frequencies; all are decoded, expanded
to full crystals and passed through the filters. The solvers take turns, and the shortest of the repeats counts. One
thread, one process. CPU seconds are less disturbed by a busy machine than wall seconds; both are given, with the load.
Written to benchmarks/results/paper_sampler.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_throughput import machine
from nanh2lib.files import write_atomically

TARGET = Path(__file__).parent / "results" / "paper_sampler.json"
SOLVERS = {"ddpm": None, "ddim": 50, "dpm-solver++": 20, "unipc": 20}
"""Steps by solver; None: all T of the model, as in the supplement."""
LIMITS = {"ddpm": 60.0}
FAST_LIMIT = 15.0
"""Wall seconds on two cores that each is to stay under."""


def measure(models: Any, solver: str, steps: int | None, count: int) -> dict[str, float]:
    """Seconds of one pass, by part, and all of it on the wall."""
    from nanh2lib.crystal.expansion import expand
    from nanh2lib.diffusion.sampling import SamplingSettings, sample
    from nanh2lib.validation import validate

    settings = SamplingSettings(count=count, solver=solver, steps=steps)
    wall, begin = time.perf_counter(), time.process_time()
    drawn = sample(models, settings, progress=False)
    sampled = time.process_time()
    units = [unit for unit, _ in drawn.decode(models.noise.settings.scheme)]
    for unit in units:
        expand(unit)
    decoded = time.process_time()
    reports = validate(units)
    end = time.process_time()
    return {
        "sampling": sampled - begin,
        "decoding": decoded - sampled,
        "filters": end - decoded,
        "all": end - begin,
        "wall": time.perf_counter() - wall,
        "judged": len(reports),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    import torch

    from nanh2lib.diffusion.pretrained import pretrained_models

    torch.set_num_threads(1)
    models = pretrained_models("paper")
    for solver in SOLVERS:
        measure(models, solver, 2, 2)  # fills caches
    best: dict[str, dict[str, float]] = {}
    load = [round(os.getloadavg()[0], 2)]
    for _ in range(arguments.repeats):
        for solver, steps in SOLVERS.items():
            found = measure(models, solver, steps, arguments.count)
            kept = best.setdefault(solver, found)
            best[solver] = {part: min(value, kept[part]) for part, value in found.items()}
    load.append(round(os.getloadavg()[0], 2))
    total = models.noise.settings.timesteps
    rows = {
        f"{solver}, {SOLVERS[solver] or total} steps": {
            **{part: round(value, 2) for part, value in parts.items()},
            "times faster than the T steps of ddpm": round(best["ddpm"]["all"] / parts["all"], 2),
            "goal_wall": LIMITS.get(solver, FAST_LIMIT),
        }
        for solver, parts in best.items()
    }
    result = {
        "command": f"python -m benchmarks.bench_paper_sampler --count {arguments.count} --repeats {arguments.repeats}",
        "machine": machine(),
        "load_average": load,
        "unit": "CPU seconds of one thread (wall: seconds), the shortest of the repeats of each part",
        "samples": arguments.count,
        "rows": rows,
    }
    write_atomically(TARGET, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
