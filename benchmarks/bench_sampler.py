"""Speed of the geometric model's sampler and training, beside an earlier version of itself.

    python -m benchmarks.bench_sampler [--baseline COMMIT] [--count 64] [--guided 1000] [--repeats 3]

The package of the baseline commit is unpacked into a temporary folder, and processes of both versions
take turns on the same untrained model (weights do not change the work). Times are CPU seconds of one
thread, the best of the repeats, so that a busy machine counts little; ratios are what to read.
Written to benchmarks/results/sampler.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "benchmarks" / "results" / "sampler.json"
BASELINE = "ffb8246"
"""Last commit before the sampler was made fast."""
HALLS = {"P2_1/c": 81, "P2_1": 6}
STEPS = 20


def measure(count: int) -> dict[str, float]:
    """CPU seconds of one process: sampling on each template, and one epoch of training."""
    import torch

    from nanh2lib.diffusion.geometric.model import GeometricSettings
    from nanh2lib.diffusion.geometric.sampling import GeometricSamplingSettings, sample_geometric
    from nanh2lib.diffusion.geometric.training import train_geometric_model
    from nanh2lib.pipeline.draws import general_template, uniform_draws

    torch.set_num_threads(1)
    units = {name: uniform_draws(general_template(hall), 64, 0) for name, hall in HALLS.items()}
    settings = GeometricSettings(epochs=1, validation_fraction=0.0)
    model = train_geometric_model(list(units.values()), settings, progress=False)  # fills caches
    begin = time.process_time()
    train_geometric_model(list(units.values()), settings.model_copy(update={"epochs": 3}), progress=False)
    times = {"training epoch of 128 crystals": (time.process_time() - begin) / 3}
    for name, part in units.items():
        sample_geometric(model, part.template, GeometricSamplingSettings(count=8, steps=2), progress=False)
        begin = time.process_time()
        how = GeometricSamplingSettings(count=count, steps=STEPS)
        sample_geometric(model, part.template, how, progress=False)
        times[f"sampling {name}, 1000 x {STEPS} steps"] = (time.process_time() - begin) * 1000 / count
    return times


def guided(count: int) -> dict[str, float]:
    """CPU seconds for guided samples in P2_1/c, decoded and passed through both filters, by part."""
    import torch

    from nanh2lib.config import GeometricRunSettings
    from nanh2lib.crystal.expansion import expand
    from nanh2lib.diffusion.geometric.guidance import NetworkGuide
    from nanh2lib.diffusion.geometric.model import GeometricSettings
    from nanh2lib.diffusion.geometric.sampling import GeometricSamplingSettings, Tools, sample_geometric
    from nanh2lib.diffusion.geometric.training import train_geometric_energy_model, train_geometric_model
    from nanh2lib.pipeline.draws import general_template, uniform_draws
    from nanh2lib.validation import validate

    torch.set_num_threads(1)
    units = uniform_draws(general_template(HALLS["P2_1/c"]), 32, 0)
    chosen = GeometricRunSettings()
    once: dict[str, Any] = {"epochs": 1}
    model = train_geometric_model([units], GeometricSettings(epochs=1), progress=False)
    energies = torch.linspace(-18.2, -18.0, 32, dtype=torch.float64)
    energy = train_geometric_energy_model([units], energies, chosen.energy.model_copy(update=once), progress=False)
    how = GeometricSamplingSettings(count=count, steps=STEPS)
    begin = time.process_time()
    drawn = sample_geometric(
        model, units.template, how, tools=Tools(guides=(NetworkGuide(energy, at_denoised=True),)), progress=False
    ).asymmetric_unit
    sampled = time.process_time()
    expand(drawn)
    decoded = time.process_time()
    validate(drawn)
    end = time.process_time()
    return {"sampling": sampled - begin, "decoding": decoded - sampled, "filters": end - decoded, "all": end - begin}


def unpack(commit: str, folder: Path) -> Path:
    """The package as it was at a commit."""
    archive = subprocess.run(["git", "archive", commit, "nanh2lib"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def in_process(package: Path, count: int) -> dict[str, float]:
    """`measure` with the package of a folder."""
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--child", "--count", str(count)]
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=package)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", default=BASELINE)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--guided", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.count)))
        return
    best: dict[str, dict[str, float]] = {"before": {}, "now": {}}
    with tempfile.TemporaryDirectory() as folder:
        packages = {"before": unpack(arguments.baseline, Path(folder)), "now": ROOT}
        for _ in range(arguments.repeats):
            for name, package in packages.items():
                for key, value in in_process(package, arguments.count).items():
                    best[name][key] = min(value, best[name].get(key, value))
    result = {
        "baseline": arguments.baseline,
        "unit": "CPU seconds of one thread, best of the repeats",
        "repeats": arguments.repeats,
        **{name: {key: round(value, 3) for key, value in times.items()} for name, times in best.items()},
        "ratio": {key: round(value / best["now"][key], 2) for key, value in best["before"].items()},
        f"guided, {arguments.guided} samples, {STEPS} steps, P2_1/c": {
            key: round(value, 2) for key, value in guided(arguments.guided).items()
        },
    }
    from nanh2lib.files import write_atomically

    write_atomically(TARGET, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
