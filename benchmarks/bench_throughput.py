"""Labels per minute and relaxations per hour, by potential and by workers x threads.

    python -m benchmarks.bench_throughput [--quick] [--only chgnet] [--fresh]

One unrelaxed crystal of 64 atoms from each space-group setting of profile full. Each row starts its
own worker processes, lets each load the potential, and then times all crystals; the shortest of the
repeats counts, for it was least disturbed. Rows are written as they come, a rerun does the missing
ones. Result: benchmarks/results/throughput.json, with the load average around each row: measure on
a machine that does nothing else, and compare rows of one run only.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.config import load_config
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.energy.labels import LabelSettings, evaluate
from nanh2lib.execution import ProcessesExecutor, WorkUnit, run_units
from nanh2lib.files import write_atomically
from nanh2lib.records import Candidate
from nanh2lib.relaxation import relax
from nanh2lib.relaxation.settings import RelaxationSettings
from nanh2lib.search.random_search import random_search
from nanh2lib.settings import processor

RESULT = Path(__file__).parent / "results" / "throughput.json"
POTENTIALS = ("chgnet", "sevennet-0", "sevennet-l3i5")
SPLITS = ((1, 1), (1, 2), (2, 1), (2, 2))  # workers x threads
BATCHES = (1, 4, 16)
RELAXED = 6
REPEATS = 2


def crystals(count: int | None) -> list[Candidate]:
    """The first accepted candidate of each setting, or of ``count`` settings spread over them."""
    search = load_config("full").search.model_copy(update={"per_setting": 1, "seed": 0})
    found = [candidate for candidate in random_search(search, progress=False) if candidate.accepted]
    if count is None or count >= len(found):
        return found
    return [found[i * len(found) // count] for i in range(count)]


def run_all(
    function: Callable[..., Any], units: list[WorkUnit], executor: ProcessesExecutor
) -> tuple[float, list[Any]]:
    """Wall time and results of all units; one that fails ends the benchmark with its reason."""
    begin = time.perf_counter()
    results = run_units(function, units, executor, progress=False)
    seconds = time.perf_counter() - begin
    for result in results:
        if not result.succeeded:
            raise SystemExit(f"{result.key}: {result.error}")
    return seconds, [result.value for result in results]


def load_everywhere(executor: ProcessesExecutor, structure: Structure, settings: LabelSettings) -> None:
    """Let each worker load the potential: more labels than workers, so that none is left out."""
    units = [WorkUnit(str(i), (structure, settings, SODIUM_AMIDE)) for i in range(3 * executor.workers)]
    run_all(evaluate, units, executor)


def time_labels(found: list[Candidate], potential: str, workers: int, threads: int, repeats: int) -> dict[str, Any]:
    settings = LabelSettings(potential=potential, threads=threads)
    units = [WorkUnit(c.id, (c.structure, settings, SODIUM_AMIDE)) for c in found]
    with ProcessesExecutor(workers, threads) as executor:
        load_everywhere(executor, found[0].structure, settings)
        seconds = [run_all(evaluate, units, executor)[0] for _ in range(repeats)]
    return {"unit": "per minute", "count": len(found), "seconds": seconds, "rate": 60 * len(found) / min(seconds)}


def time_relaxations(
    found: list[Candidate], settings: RelaxationSettings, workers: int, threads: int
) -> dict[str, Any]:
    units = [WorkUnit(c.id, (c.asymmetric_unit, settings, SODIUM_AMIDE)) for c in found]
    with ProcessesExecutor(workers, threads) as executor:
        load_everywhere(executor, found[0].structure, LabelSettings(potential=settings.potential, threads=threads))
        seconds, results = run_all(relax, units, executor)
    return {
        "unit": "per hour",
        "count": len(found),
        "seconds": [seconds],
        "rate": 3600 * len(found) / seconds,
        "evaluations": sum(stage.evaluations for stages in results for stage in stages),
        "converged": sum(stages[-1].converged for stages in results),
    }


def batched_chgnet(structures: list[Structure], size: int) -> float:
    """Seconds for energy, forces and stress with ``size`` crystals in one call of CHGNet; graphs are made before."""
    from nanh2lib.energy.potentials import get_calculator
    from nanh2lib.energy.primitive import primitive_with_map
    from nanh2lib.energy.torch_runtime import torch_threads

    model = get_calculator("chgnet").model
    graphs = [model.graph_converter(primitive_with_map(structure)[0]) for structure in structures]
    with torch_threads(1):
        model.predict_graph(graphs[:size], task="efs", batch_size=size)
        begin = time.perf_counter()
        model.predict_graph(graphs, task="efs", batch_size=size)
    return time.perf_counter() - begin


def time_batches(found: list[Candidate], size: int, repeats: int) -> dict[str, Any]:
    structures = [c.structure for c in found]
    with ProcessesExecutor(1, 1) as executor:
        units = [WorkUnit(str(i), (structures, size)) for i in range(repeats)]
        seconds = run_all(batched_chgnet, units, executor)[1]
    return {"unit": "per minute", "count": len(found), "seconds": seconds, "rate": 60 * len(found) / min(seconds)}


def jobs(
    found: list[Candidate], relaxed: list[Candidate], repeats: int
) -> dict[str, tuple[dict[str, Any], Callable[[], Any]]]:
    """What is measured, by name: how it is described, and the call that measures it."""
    todo: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {}

    def add(work: str, potential: str, workers: int, threads: int, call: Callable[[], Any]) -> None:
        words = {"work": work, "potential": potential, "workers": workers, "threads": threads}
        todo[f"{work}, {potential}, {workers} x {threads}"] = (words, call)

    for potential in POTENTIALS:
        for workers, threads in SPLITS:
            add("labels", potential, workers, threads,
                lambda p=potential, w=workers, t=threads: time_labels(found, p, w, t, repeats))  # fmt: skip
    for size in BATCHES:
        add(f"labels in batches of {size}", "chgnet", 1, 1, lambda s=size: time_batches(found, s, repeats))
    dataset = load_config("full").dataset
    rigid, full = "relaxations, rigid units in the fixed cell", "relaxations, all"
    others = [name for name in POTENTIALS if name != dataset.relaxed.potential]
    stages = [(rigid, dataset.relaxed_fixed, split) for split in ((1, 2), (2, 1))]
    stages += [(full, dataset.relaxed, split) for split in ((1, 2), (2, 1))]
    stages += [(full, dataset.relaxed.model_copy(update={"potential": name}), (2, 1)) for name in others]
    for work, settings, (workers, threads) in stages:
        add(work, settings.potential, workers, threads,
            lambda s=settings, w=workers, t=threads: time_relaxations(relaxed, s, w, t))  # fmt: skip
    return todo


def machine() -> dict[str, Any]:
    packages = ("nanh2lib", "torch", "chgnet", "sevenn")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
    }


def kept_rows(path: Path, here: Mapping[str, Any], anew: str | None) -> dict[str, Any]:
    """Rows of an earlier call on the same machine with the same packages, without those to measure anew."""
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"machine": None}
    if data["machine"] != here:
        return {}
    return {name: row for name, row in data["rows"].items() if anew is None or anew not in name}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few crystals, once; nothing is written")
    parser.add_argument("--only", default="", help="measure rows whose name holds this text")
    parser.add_argument("--fresh", action="store_true", help="measure them again where the file holds them")
    options = parser.parse_args(arguments)
    found = crystals(2 if options.quick else None)
    relaxed = [found[i * len(found) // RELAXED] for i in range(RELAXED)] if len(found) > RELAXED else found[:1]
    here = machine()
    rows = {} if options.quick else kept_rows(RESULT, here, options.only if options.fresh else None)
    for name, (words, call) in jobs(found, relaxed, 1 if options.quick else REPEATS).items():
        if name in rows or options.only not in name:
            continue
        before = os.getloadavg()[0]
        rows[name] = {**words, **call(), "load_average": [round(before, 2), round(os.getloadavg()[0], 2)]}
        rows[name]["date"] = datetime.date.today().isoformat()
        print(f"{name}: {rows[name]['rate']:.0f} {rows[name]['unit']} (load {rows[name]['load_average']})", flush=True)
        if not options.quick:
            data = {"command": "python -m benchmarks.bench_throughput", "machine": here, "rows": rows}
            write_atomically(RESULT, (json.dumps(data, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
