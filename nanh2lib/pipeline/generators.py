"""The stages ``train`` and ``sample`` of whichever model the configuration names."""

from __future__ import annotations

from typing import Any

from nanh2lib.diffusion.checkpoints import weights_path
from nanh2lib.diffusion.models import load_paper_models
from nanh2lib.diffusion.pretrained import pretrained_path
from nanh2lib.errors import InputError
from nanh2lib.files import write_atomically
from nanh2lib.pipeline.geometric import geometric_path, geometric_sample_stage, train_geometric
from nanh2lib.pipeline.model import model_path, sample_stage, train
from nanh2lib.pipeline.run import Run


def train_model(run: Run) -> dict[str, Any]:
    """`train` or `train_geometric`, as ``model`` in the configuration says."""
    return train_geometric(run) if run.config.model == "geometric" else train(run)


def sample_model(run: Run) -> dict[str, Any]:
    """`sample_stage` or `geometric_sample_stage`, as ``model`` in the configuration says."""
    return geometric_sample_stage(run) if run.config.model == "geometric" else sample_stage(run)


def use_pretrained(run: Run) -> None:
    """Give a run the shipped checkpoint of the model that its configuration names, with its card.

    Raises
    ------
    InputError
        The run has a model of its own, or the shipped one encodes crystals by another scheme than the
        configuration says.
    """
    target = geometric_path(run) if run.config.model == "geometric" else model_path(run)
    source = pretrained_path(target.stem)
    if run.config.model == "paper":
        scheme = load_paper_models(source).noise.settings.scheme
        if scheme != run.config.training.scheme:
            raise InputError(
                f"training.scheme = {run.config.training.scheme!r}: the shipped model has {scheme!r}; set that, "
                "or train a model"
            )
    content = source.read_bytes()
    if target.exists() and target.read_bytes() != content:
        raise InputError(f"{target}: this run has a model of its own; sample without --pretrained or take another run")
    weights = weights_path(source)
    # The JSON last: with it the checkpoint is whole.
    for file in (weights, source.with_suffix(".md")):
        write_atomically(target.with_name(file.name), file.read_bytes())
    write_atomically(target, content)
