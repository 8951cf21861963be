"""The trained models that ship with the package, so that sampling works without training.

Each is a checkpoint (safetensors for the weights, JSON with their SHA-256 for the rest) with a model
card in Markdown beside it, in ``nanh2lib/data/models``.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from nanh2lib.diffusion.models import PaperModels, load_paper_models
from nanh2lib.errors import InputError
from nanh2lib.store.dataset import data_directory

if TYPE_CHECKING:
    from nanh2lib.diffusion.geometric.checkpoint import GeometricModels

PretrainedName = Literal["paper", "geometric", "geometric_heldout"]
DIRECTORY = "models"


def pretrained_names() -> list[str]:
    """Names of the models that this version of the package holds."""
    return sorted(path.stem for path in (data_directory() / DIRECTORY).glob("*.json"))


def pretrained_path(name: str) -> Path:
    """Checkpoint (the JSON file) of a shipped model.

    Raises
    ------
    InputError
        The package holds no such model (the nearest is named).
    """
    names = pretrained_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}?" if near else "install the package again"
        raise InputError(f"pretrained model {name!r} does not ship with nanh2lib; {hint} (models: {', '.join(names)})")
    return data_directory() / DIRECTORY / f"{name}.json"


@overload
def pretrained_models(name: Literal["paper"]) -> PaperModels: ...
@overload
def pretrained_models(name: Literal["geometric", "geometric_heldout"]) -> GeometricModels: ...


def pretrained_models(name: PretrainedName) -> PaperModels | GeometricModels:
    """A trained model that ships with the package.

    Parameters
    ----------
    name : {"paper", "geometric", "geometric_heldout"}
        One of `pretrained_names`.

    Returns
    -------
    PaperModels or GeometricModels
        For `nanh2lib.sample` or `nanh2lib.diffusion.geometric.sampling.sample_geometric`.

    Raises
    ------
    InputError
        The package holds no such model.
    CheckpointError
        Its files are damaged: the weights' checksum is that of the JSON file, or loading stops.
    """
    path = pretrained_path(name)
    if name == "paper":
        return load_paper_models(path)
    from nanh2lib.diffusion.geometric.checkpoint import load_geometric_models

    return load_geometric_models(path)
