"""The training loop that all networks share: reproducible, resumable, loud about NaN."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from nanh2lib.diffusion.run_state import RunState
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.settings import StageSettings

BatchLoss = Callable[[Tensor, torch.Generator], Tensor]
ValidationLoss = Callable[[nn.Module], float]


class FitSettings(StageSettings):
    """How a network is fitted; the defaults are the supplement's, or stated where it is silent.

    Attributes
    ----------
    batch_size : int
        32 (supplement).
    epochs : int
        Silent in the supplement.
    learning_rate, min_learning_rate, learning_rate_factor, patience
        Adam with ReduceLROnPlateau from 1e-4 to 1e-5, factor 0.6, patience 20 epochs
        (supplement); the plateau is judged on the validation loss.
    learning_rate_schedule : {"plateau", "cosine", "constant"}
        The last two are extensions.
    validation_fraction : float
        Share of structures (or of whole groups) that training never sees.
    keep : {"best", "last"}
        Weights of the epoch with the lowest validation loss, or of the last epoch.
    average_decay : float
        Above 0: exponential moving average of the weights is validated and kept (extension).
    max_gradient_norm : float or None
        Clip the norm of the parameters' gradient (extension).
    checkpoint_every : int
        Epochs between two saved states of a run that has a directory.
    threads : int
        Threads of torch while training. One is fastest for networks of this size, and makes
        the weights independent of the number of cores.
    seed : int
    """

    batch_size: int = Field(default=32, ge=1)
    epochs: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    min_learning_rate: float = Field(default=1e-5, ge=0)
    learning_rate_factor: float = Field(default=0.6, gt=0, lt=1)
    patience: int = Field(default=20, ge=0)
    learning_rate_schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    keep: Literal["best", "last"] = "best"
    average_decay: float = Field(default=0.0, ge=0, lt=1)
    max_gradient_norm: float | None = Field(default=None, gt=0)
    checkpoint_every: int = Field(default=50, ge=1)
    threads: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)


@dataclass
class History:
    """Curves of a training run, one entry an epoch.

    Attributes
    ----------
    loss, validation_loss, learning_rate : list of float
        Without validation rows the second repeats the first.
    best_epoch : int
        Epoch (from 0) with the lowest validation loss.
    metrics : dict
        Further numbers, e.g. the energy model's errors.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_epoch: int = -1
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return len(self.loss)

    def to_dict(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "validation_loss": self.validation_loss,
            "learning_rate": self.learning_rate,
            "best_epoch": self.best_epoch,
            "metrics": self.metrics,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> History:
        return cls(**data)


def split_rows(count: int, fraction: float, seed: int, groups: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """Training and validation rows.

    Parameters
    ----------
    count : int
        Rows in all.
    fraction : float
        Share of the validation rows; 0 gives none.
    seed : int
    groups : list of int, optional
        Label of each row; rows with one label (duplicates of one crystal) stay on one side.

    Returns
    -------
    training, validation : Tensor of int
        Sorted row numbers.

    Raises
    ------
    InputError
        The labels do not match the rows, or no training row is left.
    """
    labels = list(range(count)) if groups is None else [int(g) for g in groups]
    if len(labels) != count:
        raise InputError(f"groups: {len(labels)} labels for {count} structures; give one label each")
    names = sorted(set(labels))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    wanted = round(fraction * count)
    held: set[int] = set()
    size = {name: labels.count(name) for name in names} if groups is not None else dict.fromkeys(names, 1)
    taken = 0
    for position in order:
        if taken >= wanted:
            break
        held.add(names[position])
        taken += size[names[position]]
    validation = torch.tensor([i for i, label in enumerate(labels) if label in held], dtype=torch.int64)
    training = torch.tensor([i for i, label in enumerate(labels) if label not in held], dtype=torch.int64)
    if len(training) == 0:
        raise InputError(
            f"validation_fraction = {fraction} leaves no training row of {count} in {len(names)} groups; lower it"
        )
    return training, validation


def make_learning_rate_schedule(optimizer: torch.optim.Optimizer, settings: FitSettings) -> Any:
    """The learning-rate schedule named in the settings."""
    if settings.learning_rate_schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            factor=settings.learning_rate_factor,
            patience=settings.patience,
            min_lr=settings.min_learning_rate,
        )
    if settings.learning_rate_schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, T_max=settings.epochs, eta_min=settings.min_learning_rate
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def fit(
    network: nn.Module,
    batch_loss: BatchLoss,
    validation_loss: ValidationLoss | None,
    n_rows: int,
    settings: FitSettings,
    *,
    label: str,
    run_key: str = "",
    run_directory: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train a network in place.

    Parameters
    ----------
    network : Module
        Initialised; ends with the weights that ``settings.keep`` names.
    batch_loss : callable (rows, generator) -> scalar Tensor
        Loss of the training rows with these numbers, using ``network``.
    validation_loss : callable (network) -> float, or None
        Deterministic. None: the training loss takes its place.
    n_rows : int
        Training rows.
    settings : FitSettings
    label : str
        Name in the progress bar and in errors.
    run_key : str
        Hash of data and settings: a saved run with another key is refused.
    run_directory : path, optional
        Where the run's state is kept; a killed run that is started again with it goes on from
        its last state and ends with the weights that it would have had.
    progress : bool
        Show a progress bar.

    Returns
    -------
    History

    Raises
    ------
    ComputationError
        A loss is not finite.
    CheckpointError
        The directory holds another run, or its files are damaged.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = make_learning_rate_schedule(optimizer, settings)
    average = copy.deepcopy(network) if settings.average_decay > 0 else network
    state = RunState(network, average, optimizer, schedule, generator)
    history = History()
    if run_directory is not None:
        history = History.from_dict(state.load(run_directory, run_key) or history.to_dict())
    bar: tqdm[Any] = tqdm(total=settings.epochs, initial=history.epochs, desc=label, unit="epoch", disable=not progress)
    with bar, torch_threads(settings.threads):
        for epoch in range(history.epochs, settings.epochs):
            loss = _epoch(network, average, batch_loss, n_rows, optimizer, generator, settings, (label, epoch))
            validation = loss if validation_loss is None else validation_loss(average)
            _require_finite(validation, f"{label}: validation loss of epoch {epoch}")
            history.loss.append(loss)
            history.validation_loss.append(validation)
            history.learning_rate.append(float(optimizer.param_groups[0]["lr"]))
            if history.best_epoch < 0 or validation < history.validation_loss[history.best_epoch]:
                history.best_epoch = epoch
                state.remember_best()
            if settings.learning_rate_schedule == "plateau":
                schedule.step(validation)
            else:
                schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", validation=f"{validation:.4f}", refresh=False)
            last = epoch + 1 == settings.epochs
            if run_directory is not None and (last or (epoch + 1) % settings.checkpoint_every == 0):
                state.save(run_directory, run_key, history.to_dict())
    network.load_state_dict(state.best if settings.keep == "best" else average.state_dict())
    network.eval()
    return history


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run a block with that many torch threads, then restore the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _epoch(
    network: nn.Module,
    average: nn.Module,
    batch_loss: BatchLoss,
    n_rows: int,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    settings: FitSettings,
    place: tuple[str, int],
) -> float:
    """One pass over the training rows; the mean loss per row."""
    network.train()
    total = 0.0
    batches = torch.randperm(n_rows, generator=generator).split(settings.batch_size)
    for number, rows in enumerate(batches):
        optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(rows, generator)
        value = float(loss.detach())
        _require_finite(value, f"{place[0]}: loss of epoch {place[1]}, batch {number}")
        loss.backward()
        if settings.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), settings.max_gradient_norm)
        optimizer.step()
        if average is not network:
            _update_average(average, network, settings.average_decay, place[1] * len(batches) + number)
        total += value * len(rows)
    return total / n_rows


def _update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    # A short memory at first: the average must not remember the initial weights.
    decay = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(parameter, 1 - decay)


def _require_finite(value: float, place: str) -> None:
    if not math.isfinite(value):
        raise ComputationError(
            f"{place} is {value}; check the data for outliers, lower learning_rate or set max_gradient_norm"
        )
