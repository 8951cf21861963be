"""The stages ``train`` and ``sample`` of whichever model the configuration names."""

from __future__ import annotations

from typing import Any

from nanh2lib.pipeline.geometric import geometric_sample_stage, train_geometric
from nanh2lib.pipeline.model import sample_stage, train
from nanh2lib.pipeline.run import Run


def train_model(run: Run) -> dict[str, Any]:
    """`train` or `train_geometric`, as ``model`` in the configuration says."""
    return train_geometric(run) if run.config.model == "geometric" else train(run)


def sample_model(run: Run) -> dict[str, Any]:
    """`sample_stage` or `geometric_sample_stage`, as ``model`` in the configuration says."""
    return geometric_sample_stage(run) if run.config.model == "geometric" else sample_stage(run)
