"""A learned potential: the energy network of clean crystals, trained on energies and on their gradients.

Energies of relaxed crystals alone say nothing about the way there. With the gradient at raw, relaxed and
shaken crystals the same network is a potential for rigid units: it can be followed downhill, many crystals at
a time, without a call of the potential that it learned from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.diffusion.fit import fit
from nanh2lib.diffusion.geometric.flat_units import FlatUnits, moved
from nanh2lib.diffusion.geometric.model import (
    GeometricEnergyModel,
    GeometricSettings,
    Vocabulary,
    make_conditions,
    new_network,
)
from nanh2lib.diffusion.geometric.network import UnitNetwork
from nanh2lib.diffusion.geometric.tables import TemplateTables
from nanh2lib.diffusion.geometric.training import prepare, run_key
from nanh2lib.diffusion.standardize import check_energies
from nanh2lib.errors import ComputationError, InputError

BATCH = 64
"""Crystals whose gradients are asked together where nothing is trained."""


@dataclass(frozen=True)
class UnitGradients:
    """Derivatives of the energy per formula unit by motions of units with all their images.

    Attributes
    ----------
    shift : Tensor, shape (N, 3)
        By Cartesian shifts, eV/A; units of all crystals in turn.
    turn : Tensor, shape (N, 3)
        By rotation vectors multiplied from the left, eV/radian.
    """

    shift: Tensor
    turn: Tensor


def train_potential(
    asymmetric_units: Sequence[AsymmetricUnit],
    energies: Tensor,
    gradients: UnitGradients,
    settings: GeometricSettings | None = None,
    *,
    groups: Sequence[int] | None = None,
    initial: GeometricEnergyModel | None = None,
    run_directory: str | Path | None = None,
    progress: bool = True,
) -> GeometricEnergyModel:
    """Train an energy network on energies and gradients.

    The loss is Huber's in both, in units of ``settings.energy_tolerance`` and
    ``settings.force_tolerance``: crystals far up the walls pull with a bounded force.

    Parameters
    ----------
    asymmetric_units : sequence of AsymmetricUnit
        Batches on any templates, N crystals and M units in all.
    energies : Tensor, shape (N,)
        eV per formula unit.
    gradients : UnitGradients
        Of these energies, rows for all M units in turn.
    settings : GeometricSettings, optional
    groups : sequence of int, length N, optional
        Crystals with one label stay on one side of the split.
    initial : GeometricEnergyModel, optional
        Where to start from: its weights, vocabulary, mean and scale are kept.
    run_directory, progress
        As for `train_geometric_model`.

    Returns
    -------
    GeometricEnergyModel
        ``history.metrics`` holds mean absolute errors of the validation crystals: energies (meV per
        formula unit) and forces on units (meV/A), beside those of predicting the mean and zero.

    Raises
    ------
    InputError, ComputationError
        Wrong shapes; energies or gradients that are not finite.
    """
    settings = settings or GeometricSettings()
    source = "train_potential"
    data = prepare(asymmetric_units, settings, groups, source)
    energies = check_energies(energies, data.flat.n_crystals, source)
    forces = _unit_forces(data.flat, gradients, source)
    if initial is None:
        vocabulary, mean = data.vocabulary, float(energies[data.training].median())
        scale = float((energies[data.training] - mean).abs().median()) or 1.0
    else:
        vocabulary, mean, scale = initial.vocabulary, initial.energy_mean, initial.energy_scale
    generator = torch.Generator().manual_seed(settings.seed + 4)
    network = new_network(vocabulary, settings.network, head="energy", noised=False, generator=generator)
    if initial is not None:
        network.load_state_dict(initial.network.state_dict())
    rows_of = _unit_rows(data.flat)

    def errors(module: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of energies (n,), eV per formula unit, and forces on the units of these crystals (m, 6), eV/A."""
        if not isinstance(module, UnitNetwork):
            raise TypeError(f"expected a UnitNetwork, got {type(module).__name__}")
        flat = data.flat.select(rows)
        energy, force = _predict(module, vocabulary, settings, flat, scale)
        units = torch.cat([rows_of[row] for row in rows.tolist()])
        return energy - (energies[rows] - mean).to(energy), force - forces[units].to(force)

    def loss(module: nn.Module, rows: Tensor) -> Tensor:
        energy, force = errors(module, rows)
        return _huber(energy / settings.energy_tolerance) + settings.gradient_weight * _huber(
            force / settings.force_tolerance
        )

    def validation_loss(module: nn.Module) -> float:
        parts = data.validation.split(BATCH)
        return sum(float(loss(module, part).detach()) * len(part) for part in parts) / len(data.validation)

    start = [] if initial is None else [parameter.detach() for parameter in initial.network.parameters()]
    history = fit(
        network, lambda rows, _: loss(network, data.training[rows]),
        validation_loss if len(data.validation) else None, len(data.training), settings,
        label="learned potential", run_key=run_key(settings, data, energies, forces, *start),
        run_directory=run_directory, progress=progress,
    )  # fmt: skip
    if len(data.validation):
        found = [tuple(e.detach() for e in errors(network, part)) for part in data.validation.split(BATCH)]
        energy, force = torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found])
        units = torch.cat([rows_of[row] for row in data.validation.tolist()])
        known = energies[data.validation]
        history.metrics |= {
            "energy_mae_mev": 1e3 * float(energy.abs().mean()),
            "energy_mae_of_median_mev": 1e3 * float((known - known.median()).abs().mean()),
            "force_mae_mev_per_a": 1e3 * float(force[:, :3].abs().mean()),
            "force_mae_of_zero_mev_per_a": 1e3 * float(forces[units][:, :3].abs().mean()),
        }
    return GeometricEnergyModel(network, vocabulary, settings, history, mean, scale)


def _huber(error: Tensor) -> Tensor:
    return nn.functional.huber_loss(error, torch.zeros_like(error))


def _unit_rows(flat: FlatUnits) -> list[Tensor]:
    """Rows of the units of each crystal."""
    sizes = torch.bincount(flat.crystal, minlength=flat.n_crystals).tolist()
    return list(torch.arange(flat.n_units).split(sizes))


def _per_unit(flat: FlatUnits) -> Tensor:
    """Factor Z / multiplicity (N, 1) from derivatives of the energy per formula unit to those of one unit alone."""
    factors = {id(table): formula_units(table) / table.sites.multiplicity for table in flat.tables}
    return torch.cat([factors[id(table)] for table in flat.tables])[:, None]


def formula_units(table: TemplateTables) -> int:
    """Formula units Z in the cell of a template: the common divisor of the numbers of units of each kind."""
    counts: Counter[str] = Counter()
    for site, multiplicity in zip(table.template.sites, table.template.multiplicities, strict=True):
        counts[site.unit.name] += multiplicity
    return math.gcd(*counts.values())


def _unit_forces(flat: FlatUnits, gradients: UnitGradients, source: str) -> Tensor:
    """Targets (N, 6)."""
    for name in ("shift", "turn"):
        tensor = getattr(gradients, name)
        if tensor.shape != (flat.n_units, 3):
            raise InputError(f"{source}: {name} gradients {tuple(tensor.shape)}; expected ({flat.n_units}, 3)")
        if not bool(torch.isfinite(tensor).all()):
            raise ComputationError(f"{source}: {name} gradients are not finite; drop these crystals")
    return torch.cat([gradients.shift, gradients.turn], 1).to(torch.float64) * _per_unit(flat)


def _predict(
    network: UnitNetwork, vocabulary: Vocabulary, settings: GeometricSettings, flat: FlatUnits, scale: float
) -> tuple[Tensor, Tensor]:
    """Energies (C,) less the mean, and scaled gradients (N, 6), differentiable by the weights, float32."""
    with torch.enable_grad():
        single = flat.to(torch.float32)
        shift = torch.zeros(flat.n_units, 3, requires_grad=True)
        turn = torch.zeros(flat.n_units, 3, requires_grad=True)
        displaced = moved(single, shift, turn)
        conditions = make_conditions(vocabulary, settings, flat, None)
        energy = network.energies(displaced, network.geometry(displaced), conditions) * scale
        gradient = torch.autograd.grad(energy.sum(), (shift, turn), create_graph=True)
    return energy, torch.cat(gradient, 1) * _per_unit(flat).to(energy.dtype)
