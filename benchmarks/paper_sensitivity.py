"""What the supplement leaves open, varied one at a time on the paper model.

    python -m benchmarks.paper_sensitivity [--epochs 1000] [--count 100] [--run results/paper]

Training set: the shipped dataset, relaxed in the fixed cell (one choice: as its search made it), energies by CHGNet.
The first guided samples of each choice are pushed apart and their energy is asked of CHGNet, the energy network being
no judge of itself; so is that of as many uniform draws. A killed run goes on where it was. Written to
benchmarks/results/paper_sensitivity.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanh2lib.config import load_config
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand
from nanh2lib.diffusion.models import TrainingSettings
from nanh2lib.diffusion.sampling import SamplingSettings
from nanh2lib.energy.labels import EnergyResult, LabelSettings, label_structures
from nanh2lib.files import write_atomically
from nanh2lib.pipeline.geometric_data import alpha_in_fixed_cell
from nanh2lib.pipeline.model import TrainingSet, training_set
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.sensitivity import JUDGED, blind_draws, judged_numbers, sensitivity
from nanh2lib.settings import config_hash

CONFIG = Path(__file__).parent / "search_efficiency" / "paper.yaml"
TARGET = Path(__file__).parent / "results" / "paper_sensitivity.json"


def learned(folder: Path, structures: str) -> TrainingSet:
    """The training set of the committed configuration, with relaxed or raw structures."""
    config = load_config("full", CONFIG)
    training = config.training.model_copy(update={"structures": structures})
    run = Run(folder, config.model_copy(update={"training": training}), progress=False)
    return training_set(run)


def energies(settings: LabelSettings, units: Sequence[AsymmetricUnit]) -> list[float]:
    crystals = {str(number): expand(unit)[0] for number, unit in enumerate(units)}
    labels = label_structures(crystals, settings, progress=False)
    return [label.energy_per_fu if isinstance(label, EnergyResult) else math.nan for label in labels.values()]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("results/paper"), help="for groups of equal crystals")
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--target", type=Path, default=TARGET)
    return parser.parse_args()


def describe(sets: Mapping[str, TrainingSet], training: TrainingSettings, sampling: SamplingSettings) -> dict[str, Any]:
    """What the results depend on, and what the training sets hold."""
    return {
        "structures": {name: len(data) for name, data in sets.items()},
        "different": {name: len(set(data.groups or ())) for name, data in sets.items()},
        "data": {name: data.key for name, data in sets.items()},
        "lowest_ev_per_fu": {name: round(float(data.energies.min()), 4) for name, data in sets.items()},
        "median_ev_per_fu": {name: round(float(data.energies.median()), 4) for name, data in sets.items()},
        "judged": JUDGED,
        "base": {
            "training": training.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
            "hash": config_hash(training) + config_hash(sampling),
        },
    }


def main() -> None:
    """Go on with the choices that are not measured yet."""
    arguments = parse_arguments()
    begin = time.process_time()
    config = load_config("full", CONFIG)
    sets = {name: learned(arguments.run, name) for name in ("relaxed_fixed", "generated")}
    data = sets["relaxed_fixed"]
    training = config.training.networks.model_copy(update={"epochs": arguments.epochs})
    sampling = SamplingSettings(count=arguments.count)
    alpha = alpha_in_fixed_cell(Run(arguments.run, config, progress=False)).energy_final
    head = {
        **describe(sets, training, sampling),
        "potential": config.label.potential,
        "alpha_ev_per_fu": round(alpha, 6),
    }
    kept: dict[str, Any] = json.loads(arguments.target.read_text()) if arguments.target.exists() else {}
    results: dict[str, Any] = kept["results"] if {k: kept.get(k) for k in head} == head else {}

    def judge(units: Sequence[AsymmetricUnit]) -> list[float]:
        return energies(config.label, units)

    uniform = judged_numbers(blind_draws(data, JUDGED, config.seed), judge)

    def save() -> None:
        text = json.dumps({**head, "results": results, "uniform": uniform}, indent=1) + "\n"
        write_atomically(arguments.target, text.encode())

    def write(name: str, row: dict[str, Any]) -> None:
        results[name] = row
        save()
        print(name, row, f"{time.process_time() - begin:.0f} s of CPU", flush=True)

    sensitivity(
        data, training, sampling, done=dict(results), on_result=write,
        others={"generated": sets["generated"]}, judge=judge, progress=False,
    )  # fmt: skip
    save()


if __name__ == "__main__":
    main()
