"""Score networks with one part left out, trained alike: what the parts of the geometric model buy.

All learn from the held-out training set of ``geometric_heldout.yaml``, straight from the dataset (no
pretraining), for equally many epochs, and are guided by the learned potential of the shipped held-out model,
so that they differ in one setting of the score network each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanh2lib.config import RunConfig, load_config
from nanh2lib.diffusion.geometric.checkpoint import (
    GeometricModels,
    load_geometric_models,
    save_geometric_models,
)
from nanh2lib.diffusion.geometric.model import GeometricModel, GeometricSettings
from nanh2lib.diffusion.geometric.training import train_geometric_energy_model, train_geometric_model
from nanh2lib.errors import InputError
from nanh2lib.pipeline.geometric import training_summary
from nanh2lib.pipeline.geometric_data import GeometricTrainingSet, geometric_training_set
from nanh2lib.pipeline.model_card import charged_calls, geometric_card
from nanh2lib.pipeline.run import Run, open_run, write_text

CONFIG = Path(__file__).with_name("geometric_heldout.yaml")
POTENTIAL = Path(__file__).resolve().parents[2] / "nanh2lib" / "data" / "models" / "geometric_heldout.json"
"""Its learned potential guides all of them."""
EPOCHS = 60
NOISED = "noised-guide"
"""No part is left out; its energy network is told the noise level (guide ``noised``)."""

PARTS: Mapping[str, Mapping[str, Any]] = {
    "all-parts": {},
    NOISED: {},
    "no-torus": {"noise": {"positions": "euclidean"}},
    "no-unit-symmetry": {"noise": {"orientations": "so3"}},
    "no-rotation-group": {"noise": {"orientations": "tangent"}},
    "no-origin-quotient": {"origin": "kept"},
    "no-equivariance": {"network": {"architecture": "plain"}, "origin": "augmented"},
    "no-space-group": {"network": {"condition_on_space_group": False}},
    "no-sites": {"network": {"condition_on_site": False}},
    "unrelaxed-data": {},
}
"""Settings of the score network that replace those of the config."""


def part_settings(part: str, config: RunConfig, epochs: int = EPOCHS) -> RunConfig:
    """Configuration of the training without a part.

    Parameters
    ----------
    part : str
        A key of `PARTS`.
    config : RunConfig
        With all parts.
    epochs : int

    Raises
    ------
    InputError
        No such part.
    """
    if part not in PARTS:
        raise InputError(f"part {part!r}: choose one of {', '.join(PARTS)}")
    merged = config.geometric.training.model_dump()
    for key, value in PARTS[part].items():
        merged[key] = {**merged[key], **value} if isinstance(value, Mapping) else value
    training = GeometricSettings.from_mapping({**merged, "epochs": epochs}, part)
    changes: dict[str, Any] = {"training": training, "pretraining": None, "potential": None}
    if part == "unrelaxed-data":
        changes["structures"] = "generated"
    if part == NOISED:
        changes["guide"] = "noised"
    return config.model_copy(update={"geometric": config.geometric.model_copy(update=changes)})


def train_part(
    part: str, folder: Path, *, epochs: int = EPOCHS, config: RunConfig | None = None, progress: bool = True
) -> Path:
    """Train the score network without a part; a killed training goes on where it was.

    Parameters
    ----------
    part : str
        A key of `PARTS`.
    folder : Path
        Of all trainings: a run, whose training set is worked out once for all parts.
    epochs : int
    config : RunConfig, optional
        Default: profile ``full`` with `CONFIG`.
    progress : bool

    Returns
    -------
    Path
        Checkpoint (``.json``): the score network, and the energy network that guides it. Its card charges
        the calls of the shipped held-out model, whose potential guides.
    """
    whole = config or load_config("full", CONFIG)
    run, config = open_run(folder, whole, progress=progress), part_settings(part, whole, epochs)
    data = geometric_training_set(run, config.geometric)
    run = replace(run, config=config)
    score = train_geometric_model(
        data.units,
        config.geometric.training.model_copy(update={"seed": config.seed}),
        weights=data.weights(config.geometric.temperature),
        groups=data.groups,
        run_directory=run.path("models", f"{part}_score_run"),
        progress=progress,
    )
    models = _guided(run, score, data)
    target = save_geometric_models(folder / f"{part}.json", models)
    summary = {**training_summary(models, data), "evaluations_charged": charged_calls(POTENTIAL.with_suffix(".md"))}
    write_text(target.with_suffix(".md"), geometric_card(run, summary, models))
    return target


def _guided(run: Run, score: GeometricModel, data: GeometricTrainingSet) -> GeometricModels:
    if run.config.geometric.guide != "noised":
        return GeometricModels(score, load_geometric_models(POTENTIAL).energy)
    energy = train_geometric_energy_model(
        data.units, data.energies, run.config.geometric.energy, noised=True, groups=data.groups,
        run_directory=run.path("models", "noised_energy_run"), progress=run.progress,
    )  # fmt: skip
    return GeometricModels(score, noised_energy=energy)
