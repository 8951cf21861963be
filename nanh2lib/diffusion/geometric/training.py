"""Training of the geometric score and energy models on asymmetric units of many templates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import project
from nanh2lib.diffusion.fit import ValidationLoss, fit, split_rows
from nanh2lib.diffusion.geometric.augmentation import shift_origins
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.model import (
    GeometricEnergyModel,
    GeometricModel,
    GeometricSettings,
    Vocabulary,
    make_conditions,
    new_network,
    predict_scores,
    remove_drift,
)
from nanh2lib.diffusion.geometric.network import Conditions, UnitNetwork
from nanh2lib.diffusion.geometric.noising import CellStatistics, Noised, add_noise
from nanh2lib.diffusion.geometric.tables import SiteData
from nanh2lib.diffusion.standardize import check_energies
from nanh2lib.diffusion.training import MIN_ENERGY_SPREAD, RUN_ONLY, energy_errors
from nanh2lib.errors import ComputationError, InputError

VALIDATION_BATCH = 64

_Predict = Callable[[nn.Module, Tensor, torch.Generator | None], Tensor]


@dataclass(frozen=True)
class TrainingData:
    """A training set, flat and split.

    Attributes
    ----------
    flat : FlatUnits
        All crystals, float64.
    vocabulary : Vocabulary
        Kinds of unit that occur.
    cells : CellStatistics
        Reference cell and spread of the strain.
    training, validation : Tensor of int
        Numbers of the crystals in either part.
    """

    flat: FlatUnits
    vocabulary: Vocabulary
    cells: CellStatistics
    training: Tensor
    validation: Tensor


def prepare(
    parts: Sequence[AsymmetricUnit], settings: GeometricSettings, groups: Sequence[int] | None, source: str
) -> TrainingData:
    """Crystals on their sites, checked and split; ``source`` names the caller in errors.

    Raises
    ------
    InputError, ComputationError
        Nothing to train on; numbers that are not finite.
    """
    if not parts or sum(part.batch_size for part in parts) == 0:
        raise InputError(f"{source}: no asymmetric unit given")
    clean = [project(part.detach().to(torch.float64)) for part in parts]
    flat = FlatUnits.of(clean)
    for name in ("lattice", "frac_origins", "rotations"):
        bad = (~torch.isfinite(getattr(flat, name))).nonzero()
        if len(bad):
            row = int(bad[0, 0]) if name == "lattice" else int(flat.crystal[bad[0, 0]])
            raise ComputationError(f"{source}: {name} of crystal {row} is not finite; drop it or repair it")
    training, validation = split_rows(
        flat.n_crystals, settings.validation_fraction, settings.seed, None if groups is None else list(groups)
    )
    return TrainingData(flat, Vocabulary.of(clean), CellStatistics.of(clean), training, validation)


def run_key(settings: GeometricSettings, data: TrainingData, *more: Tensor) -> str:
    """Hash of everything that the weights depend on."""
    excluded = RUN_ONLY if settings.learning_rate_schedule != "cosine" else {"checkpoint_every"}
    digest = hashlib.sha256(settings.model_dump_json(exclude=excluded).encode())
    digest.update(repr([table.template.label for table in data.flat.tables]).encode())
    for tensor in (data.flat.lattice, data.flat.frac_origins, data.flat.rotations, *more):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def train_geometric_model(
    asymmetric_units: Sequence[AsymmetricUnit],
    settings: GeometricSettings | None = None,
    *,
    weights: Tensor | None = None,
    groups: Sequence[int] | None = None,
    initial: GeometricModel | None = None,
    run_directory: str | Path | None = None,
    progress: bool = True,
) -> GeometricModel:
    """Train the score network by denoising score matching.

    Parameters
    ----------
    asymmetric_units : sequence of AsymmetricUnit
        Batches on any templates; crystals are numbered through them.
    settings : GeometricSettings, optional
    weights : Tensor, shape (N,), optional
        Weight of each crystal in the loss (say, larger for lower energies); mean 1 is best.
    groups : sequence of int, length N, optional
        Crystals with one label stay on one side of the split.
    initial : GeometricModel, optional
        Model whose weights are the start; its vocabulary is kept, so it must know all units here.
    run_directory : path, optional
        Makes the run resumable; see `fit`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    GeometricModel

    Raises
    ------
    InputError, ComputationError
        Nothing to train on; numbers that are not finite.
    """
    settings = settings or GeometricSettings()
    data = prepare(asymmetric_units, settings, groups, "train_geometric_model")
    if initial is not None:
        data = _known_to(initial, data)
    weights = torch.ones(data.flat.n_crystals) if weights is None else weights
    if weights.shape != (data.flat.n_crystals,) or not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise InputError(f"weights: give one finite number >= 0 for each of the {data.flat.n_crystals} crystals")
    generator = torch.Generator().manual_seed(settings.seed)
    network = new_network(data.vocabulary, settings.network, head="score", noised=True, generator=generator)
    start: list[Tensor] = []
    if initial is not None:
        _take_weights(network, initial)
        start = [parameter.detach() for parameter in initial.network.parameters()]

    def batch_loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        chosen = data.training[rows]
        level = torch.randint(settings.noise.levels, (len(chosen),), generator=generator)
        noised, conditions = _noised(data, chosen, level, settings, generator)
        return score_loss(network, noised, conditions, settings, data.cells, weights[chosen])

    validation = _score_validation(data, settings, weights)
    history = fit(
        network, batch_loss, validation, len(data.training), settings, label="score model",
        run_key=run_key(settings, data, weights, *start), run_directory=run_directory, progress=progress,
    )  # fmt: skip
    return GeometricModel(network, data.vocabulary, data.cells, settings, history)


def _known_to(initial: GeometricModel, data: TrainingData) -> TrainingData:
    """The data with the numbers that an earlier model gave to units and space groups."""
    for template in data.vocabulary.templates:
        initial.vocabulary.check(template)
    kept = replace(initial.vocabulary, templates=data.vocabulary.templates, counts=data.vocabulary.counts)
    return replace(data, vocabulary=kept)


def _take_weights(network: UnitNetwork, initial: GeometricModel) -> None:
    try:
        network.load_state_dict(initial.network.state_dict())
    except RuntimeError as error:
        raise InputError("initial model: its network has another architecture than settings.network") from error


def _noised(
    data: TrainingData,
    chosen: Tensor,
    level: Tensor,
    settings: GeometricSettings,
    generator: torch.Generator,
    hide: bool = True,
) -> tuple[Noised, Conditions]:
    flat = data.flat.select(chosen)
    if settings.origin == "augmented":
        flat = shift_origins(flat, generator)
    conditions = make_conditions(data.vocabulary, settings, flat, level)
    noised = add_noise(flat, conditions.sites, level, settings.noise, data.cells, generator)
    if hide and settings.hall_dropout > 0:
        hidden = torch.rand(len(chosen), generator=generator) < settings.hall_dropout
        hall = torch.where(hidden, torch.zeros_like(conditions.hall), conditions.hall)
        conditions = Conditions(conditions.log_sigma, hall, conditions.sites)
    return noised, conditions


def score_loss(
    network: UnitNetwork,
    noised: Noised,
    conditions: Conditions,
    settings: GeometricSettings,
    cells: CellStatistics,
    weights: Tensor,
) -> Tensor:
    """Mean squared error of sigma times the score, per free coordinate.

    Parameters
    ----------
    network : UnitNetwork
    noised : Noised
    conditions : Conditions
    settings : GeometricSettings
    cells : CellStatistics
    weights : Tensor, shape (C,)
        Of the crystals.

    Returns
    -------
    Tensor, scalar
        Positions + turn_weight orientations + strain_weight cell; each is about 1 for a
        network that predicts nothing, at small noise.
    """
    flat = noised.flat
    predicted = predict_scores(network, flat, noised.level, conditions, settings, cells, noised.strain_state)
    target = remove_drift(noised.position, flat) if settings.origin == "quotient" else noised.position
    each = weights.to(torch.float64)[flat.crystal]
    sites: SiteData = conditions.sites
    loss = _mean_square(predicted.position - target, sites.freedom, each)
    loss = loss + settings.turn_weight * _mean_square(
        predicted.turn - noised.turn, sites.turn_freedom.to(torch.float64), each
    )
    if settings.noise.lattice == "strain":
        squared = ((predicted.strain - noised.strain) ** 2).sum((1, 2))
        loss = loss + settings.strain_weight * (weights.to(torch.float64) * squared).mean() / 6
    return loss


def _mean_square(error: Tensor, freedom: Tensor, weight: Tensor) -> Tensor:
    return (weight * (error**2).sum(-1)).sum() / freedom.sum().clamp_min(1)


def _score_validation(data: TrainingData, settings: GeometricSettings, weights: Tensor) -> ValidationLoss | None:
    """Loss on fixed noise, levels spread evenly."""
    count = len(data.validation)
    if count == 0:
        return None
    generator = torch.Generator().manual_seed(settings.seed + 2)
    rows = data.validation.repeat(-(-max(count, VALIDATION_BATCH) // count))
    level = (torch.randperm(len(rows), generator=generator) + 0.5) / len(rows) * settings.noise.levels
    batches = []
    for part in torch.arange(len(rows)).split(VALIDATION_BATCH):
        noised, conditions = _noised(data, rows[part], level[part].long(), settings, generator, hide=False)
        batches.append((noised, conditions, weights[rows[part]]))

    def loss(network: nn.Module) -> float:
        if not isinstance(network, UnitNetwork):
            raise TypeError(f"expected a UnitNetwork, got {type(network).__name__}")
        with torch.no_grad():
            values = [
                float(score_loss(network, noised, conditions, settings, data.cells, weight)) * len(weight)
                for noised, conditions, weight in batches
            ]
        return sum(values) / len(rows)

    return loss


def train_geometric_energy_model(
    asymmetric_units: Sequence[AsymmetricUnit],
    energies: Tensor,
    settings: GeometricSettings | None = None,
    *,
    noised: bool = False,
    groups: Sequence[int] | None = None,
    run_directory: str | Path | None = None,
    progress: bool = True,
) -> GeometricEnergyModel:
    """Train an energy network on the same crystals.

    Parameters
    ----------
    asymmetric_units, settings, groups, run_directory, progress
        As for `train_geometric_model`.
    energies : Tensor, shape (N,)
        eV per formula unit.
    noised : bool
        Train on noised crystals, told their level, to predict the energy of the clean one
        (guidance ``noised``); otherwise on clean crystals (guidance ``paper`` and ``x0``).

    Returns
    -------
    GeometricEnergyModel

    Raises
    ------
    InputError, ComputationError
        As for `train_geometric_model`; energies that are missing, not finite or all alike.
    """
    settings = settings or GeometricSettings()
    source = "train_geometric_energy_model"
    data = prepare(asymmetric_units, settings, groups, source)
    energies = check_energies(energies, data.flat.n_crystals, source)
    mean, scale = float(energies[data.training].mean()), float(energies[data.training].std(correction=0))
    if scale < MIN_ENERGY_SPREAD:
        raise InputError(f"{source}: the {len(data.training)} training energies are all {mean}; nothing to learn")
    target = ((energies - mean) / scale).to(torch.float32)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    network = new_network(data.vocabulary, settings.network, head="energy", noised=noised, generator=generator)

    def predict(module: nn.Module, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        flat, level = data.flat.select(rows), None
        if noised:
            draw = generator or torch.Generator().manual_seed(settings.seed + 3)
            level = torch.randint(settings.noise.levels, (len(rows),), generator=draw)
            flat = _noised(data, rows, level, settings, draw)[0].flat
        elif settings.origin == "augmented" and generator is not None:
            flat = shift_origins(flat, generator)
        conditions = make_conditions(data.vocabulary, settings, flat, level)
        single = flat.to(torch.float32)
        if not isinstance(module, UnitNetwork):
            raise TypeError(f"expected a UnitNetwork, got {type(module).__name__}")
        return module.energies(single, module.geometry(single), conditions)

    def batch_loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        chosen = data.training[rows]
        return ((predict(network, chosen, generator) - target[chosen]) ** 2).mean()

    def validation_loss(module: nn.Module) -> float:
        return float(((_in_batches(predict, module, data.validation) - target[data.validation]) ** 2).mean())

    history = fit(
        network, batch_loss, validation_loss if len(data.validation) else None, len(data.training), settings,
        label="energy model", run_key=run_key(settings, data, energies, torch.tensor(noised)),
        run_directory=run_directory, progress=progress,
    )  # fmt: skip
    everything = torch.arange(data.flat.n_crystals)
    predicted = _in_batches(predict, network, everything).to(torch.float64) * scale + mean
    history.metrics |= energy_errors(predicted, energies, data.training, data.validation)
    return GeometricEnergyModel(network, data.vocabulary, settings, history, mean, scale)


def _in_batches(predict: _Predict, module: nn.Module, rows: Tensor) -> Tensor:
    """Predictions (n,) for rows (n,), without gradients."""
    with torch.no_grad():
        return torch.cat([predict(module, part, None) for part in rows.split(VALIDATION_BATCH)])
