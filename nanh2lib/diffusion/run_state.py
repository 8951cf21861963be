"""State of a training run on disk, from which a killed run goes on to the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanh2lib.diffusion.checkpoints import (
    Checkpoint,
    load_weights,
    prefixed,
    read_checkpoint,
    with_prefix,
    write_checkpoint,
)
from nanh2lib.errors import CheckpointError

KIND = "training-run"
NAME = "run.json"


class RunState:
    """Everything that changes in a run: weights, average, best weights, optimiser, schedule, generator.

    Parameters
    ----------
    network, average : Module
        The trained network and its moving average (the same object when there is none).
    optimizer : Optimizer
        Adam.
    schedule : learning-rate scheduler
        Its state is plain numbers.
    generator : torch.Generator
    """

    def __init__(
        self,
        network: nn.Module,
        average: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        generator: torch.Generator,
    ) -> None:
        self.network, self.average, self.optimizer = network, average, optimizer
        self.schedule, self.generator = schedule, generator
        self.best: dict[str, Tensor] = {}

    def remember_best(self) -> None:
        """Keep a copy of the averaged weights."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.average.state_dict().items()}

    def save(self, directory: str | Path, key: str, history: dict[str, Any]) -> None:
        """Write the state; the older one stays whole until the new one is."""
        directory = Path(directory)
        adam = self.optimizer.state_dict()
        moments = {
            f"adam.{index}.{name}": value for index, entry in adam["state"].items() for name, value in entry.items()
        }
        tensors = {
            **prefixed(self.network.state_dict(), "network"),
            **prefixed(self.average.state_dict(), "average"),
            **prefixed(self.best, "best"),
            **moments,
            "generator": self.generator.get_state(),
        }
        tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        payload = {
            "key": key,
            "history": history,
            "optimizer_groups": adam["param_groups"],
            "schedule": _plain(self.schedule.state_dict()),
        }
        name = f"run-{len(history['loss']):06d}.safetensors"
        write_checkpoint(directory / NAME, KIND, payload, tensors, name)
        for old in directory.glob("run-*.safetensors"):
            if old.name != name:
                old.unlink()

    def load(self, directory: str | Path, key: str) -> dict[str, Any] | None:
        """Take up a saved state; its history, or None when there is none yet.

        Raises
        ------
        CheckpointError
            The directory holds a run on other data or with other settings.
        """
        path = Path(directory) / NAME
        if not path.exists():
            return None
        checkpoint = read_checkpoint(path, KIND)
        if checkpoint.payload["key"] != key:
            raise CheckpointError(
                f"{path}: a training run on other data or with other settings; "
                "give another run directory or delete this one"
            )
        load_weights(self.network, checkpoint, "network")
        load_weights(self.average, checkpoint, "average")
        self.best = with_prefix(checkpoint.tensors, "best")
        self._load_optimizer(checkpoint)
        self.schedule.load_state_dict(dict(checkpoint.payload["schedule"]))
        self.generator.set_state(checkpoint.tensors["generator"])
        history: dict[str, Any] = dict(checkpoint.payload["history"])
        return history

    def _load_optimizer(self, checkpoint: Checkpoint) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in with_prefix(checkpoint.tensors, "adam").items():
            index, entry = name.split(".", 1)
            state.setdefault(int(index), {})[entry] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": checkpoint.payload["optimizer_groups"]})


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Scheduler state as JSON values; infinities (none seen yet) become None and stay unset."""
    plain: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, (bool, int, str)) or value is None:
            plain[name] = value
        elif isinstance(value, float):
            if value not in (float("inf"), float("-inf")):
                plain[name] = value
        elif isinstance(value, (list, tuple)):
            plain[name] = [float(v) if isinstance(v, Tensor) else v for v in value]
        elif isinstance(value, Tensor):
            plain[name] = float(value)
    return plain
