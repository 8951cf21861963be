"""What the supplement leaves open, varied one at a time on the paper model.

    python -m benchmarks.paper_sensitivity --run results/dataset-full [--epochs 300] [--count 300]

Training set: the labelled crystals of a run, as its search made them. A killed run goes on where it was.
Written to benchmarks/results/paper_sensitivity.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from nanh2lib.diffusion.models import TrainingSettings
from nanh2lib.diffusion.sampling import SamplingSettings
from nanh2lib.files import write_atomically
from nanh2lib.pipeline.geometric_data import recorded_run
from nanh2lib.pipeline.model import training_set
from nanh2lib.pipeline.sensitivity import sensitivity
from nanh2lib.settings import config_hash

TARGET = Path(__file__).parent / "results" / "paper_sensitivity.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    run = recorded_run(arguments.run)
    data = training_set(run)
    training = TrainingSettings(scheme="split", epochs=arguments.epochs)
    sampling = SamplingSettings(count=arguments.count)
    head: dict[str, Any] = {
        "profile": run.config.profile,
        "structures": len(data),
        "data": data.key,
        "potential": run.config.label.potential,
        "base": {
            "training": training.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
            "hash": config_hash(training) + config_hash(sampling),
        },
    }
    kept: dict[str, Any] = json.loads(arguments.target.read_text()) if arguments.target.exists() else {}
    results: dict[str, Any] = kept["results"] if {k: kept.get(k) for k in head} == head else {}

    def write(name: str, row: dict[str, Any]) -> None:
        results[name] = row
        text = json.dumps({**head, "results": results}, indent=1) + "\n"
        write_atomically(arguments.target, text.encode())
        print(name, row, flush=True)

    sensitivity(data, training, sampling, done=dict(results), on_result=write, progress=False)


if __name__ == "__main__":
    main()
