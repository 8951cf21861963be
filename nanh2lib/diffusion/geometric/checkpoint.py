"""Checkpoints of the geometric model: score network and, where trained, its energy networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nanh2lib.diffusion.checkpoints import (
    Checkpoint,
    load_weights,
    prefixed,
    read_checkpoint,
    write_checkpoint,
)
from nanh2lib.diffusion.fit import History
from nanh2lib.diffusion.geometric.model import (
    GeometricEnergyModel,
    GeometricModel,
    GeometricSettings,
    Vocabulary,
    new_network,
)
from nanh2lib.diffusion.geometric.network import UnitNetwork
from nanh2lib.diffusion.geometric.noising import CellStatistics
from nanh2lib.errors import CheckpointError
from nanh2lib.settings import config_hash

KIND = "geometric"


@dataclass(frozen=True)
class GeometricModels:
    """What belongs together.

    Attributes
    ----------
    score : GeometricModel
    energy : GeometricEnergyModel, optional
        Of clean crystals: guidance ``paper`` and ``x0``, and steering.
    noised_energy : GeometricEnergyModel, optional
        Told the noise level: guidance ``noised``.
    """

    score: GeometricModel
    energy: GeometricEnergyModel | None = None
    noised_energy: GeometricEnergyModel | None = None


def save_geometric_models(path: str | Path, models: GeometricModels) -> Path:
    """Write ``path.json`` and ``path.safetensors``; the JSON's path is returned."""
    payload: dict[str, Any] = {"score": {**_describe(models.score), "cells": models.score.cells.to_dict()}}
    tensors: dict[str, Tensor] = prefixed(models.score.network.state_dict(), "score")
    for name in ("energy", "noised_energy"):
        model: GeometricEnergyModel | None = getattr(models, name)
        if model is None:
            continue
        payload[name] = {
            **_describe(model),
            "energy_mean": model.energy_mean,
            "energy_scale": model.energy_scale,
        }
        tensors |= prefixed(model.network.state_dict(), name)
    return write_checkpoint(path, KIND, payload, tensors)


def load_geometric_models(path: str | Path) -> GeometricModels:
    """Read what `save_geometric_models` wrote.

    Raises
    ------
    CheckpointError
        See `read_checkpoint`; or the description inside is not ours.
    """
    checkpoint = read_checkpoint(path, KIND)
    settings, vocabulary, history = _restore(checkpoint, "score")
    try:
        cells = CellStatistics.from_dict(checkpoint.payload["score"]["cells"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(checkpoint, "score", error) from error
    network = _network(checkpoint, "score", settings, vocabulary, noised=True)
    score = GeometricModel(network, vocabulary, cells, settings, history)
    return GeometricModels(score, _energy(checkpoint, "energy"), _energy(checkpoint, "noised_energy"))


def _energy(checkpoint: Checkpoint, part: str) -> GeometricEnergyModel | None:
    if part not in checkpoint.payload:
        return None
    settings, vocabulary, history = _restore(checkpoint, part)
    network = _network(checkpoint, part, settings, vocabulary, noised=part == "noised_energy")
    try:
        scale = {key: float(checkpoint.payload[part][key]) for key in ("energy_mean", "energy_scale")}
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(checkpoint, part, error) from error
    return GeometricEnergyModel(network, vocabulary, settings, history, **scale)


def _network(
    checkpoint: Checkpoint, part: str, settings: GeometricSettings, vocabulary: Vocabulary, *, noised: bool
) -> UnitNetwork:
    head: Literal["score", "energy"] = "score" if part == "score" else "energy"
    network = new_network(vocabulary, settings.network, head=head, noised=noised, generator=torch.Generator())
    load_weights(network, checkpoint, part)
    network.eval()
    return network


def _describe(model: GeometricModel | GeometricEnergyModel) -> dict[str, Any]:
    return {
        "settings": model.settings.model_dump(mode="json"),
        "config_hash": config_hash(model.settings),
        "vocabulary": model.vocabulary.to_dict(),
        "history": model.history.to_dict(),
    }


def _restore(checkpoint: Checkpoint, part: str) -> tuple[GeometricSettings, Vocabulary, History]:
    try:
        data = checkpoint.payload[part]
        settings = GeometricSettings.from_mapping(data["settings"], f"{checkpoint.path}: {part}")
        return settings, Vocabulary.from_dict(data["vocabulary"]), History.from_dict(data["history"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(checkpoint, part, error) from error


def _damaged(checkpoint: Checkpoint, part: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path}: the description of the {part} model is damaged or of another version ({error}); "
        "train again"
    )
