"""Energies and gradients of crystals at the run's potential, batch by batch, kept in the run's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.diffusion.fit import torch_threads
from nanh2lib.diffusion.geometric.flat_units import FlatUnits, batches_of
from nanh2lib.diffusion.geometric.guidance import PotentialGradient
from nanh2lib.diffusion.geometric.potential import UnitGradients, formula_units
from nanh2lib.diffusion.geometric.reverse import displaced
from nanh2lib.diffusion.geometric.tables import template_tables
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.errors import ComputationError
from nanh2lib.files import write_atomically
from nanh2lib.pipeline.run import Run
from nanh2lib.relaxation.gradient import EvaluationCounter, energy_and_gradient

BATCH = 32


@dataclass(frozen=True)
class Labelled:
    """Crystals with energies and gradients.

    Attributes
    ----------
    units : tuple of AsymmetricUnit
        Batches of one.
    energies : Tensor, shape (N,)
        eV per formula unit; NaN where the potential failed.
    shifts, turns : tuple of Tensor, each (U, 3)
        Derivatives of the energy per formula unit; see `UnitGradients`.
    """

    units: tuple[AsymmetricUnit, ...]
    energies: Tensor
    shifts: tuple[Tensor, ...]
    turns: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.units)

    def select(self, rows: Iterable[int]) -> Labelled:
        """Some of them, in the order given."""
        chosen = list(rows)
        return Labelled(
            tuple(self.units[row] for row in chosen),
            self.energies[torch.tensor(chosen, dtype=torch.int64)],
            tuple(self.shifts[row] for row in chosen),
            tuple(self.turns[row] for row in chosen),
        )

    @classmethod
    def cat(cls, parts: Sequence[Labelled]) -> Labelled:
        """All of them, part after part."""
        return cls(
            tuple(unit for part in parts for unit in part.units),
            torch.cat([part.energies for part in parts]),
            tuple(shift for part in parts for shift in part.shifts),
            tuple(turn for part in parts for turn in part.turns),
        )

    @property
    def gradients(self) -> UnitGradients:
        """Rows of all units in turn."""
        return UnitGradients(torch.cat(self.shifts), torch.cat(self.turns))


def label_gradients(run: Run, units: Sequence[AsymmetricUnit], description: str = "gradients") -> Labelled:
    """Energies and gradients at the potential and cell of the run's ``relaxed_fixed``.

    Parameters
    ----------
    run : Run
        Labels are kept in its folder ``gradients``; what is there is not computed again.
    units : sequence of AsymmetricUnit
        Batches of one, float64.
    description : str
        Title of the progress bar.
    """
    settings = run.config.dataset.relaxed_fixed
    by_template: dict[Template, list[int]] = {}
    for row, unit in enumerate(units):
        by_template.setdefault(unit.template, []).append(row)
    batches = [rows[i : i + BATCH] for rows in by_template.values() for i in range(0, len(rows), BATCH)]
    energies = torch.full((len(units),), torch.nan, dtype=torch.float64)
    shifts: list[Tensor] = [torch.zeros(0, 3)] * len(units)
    turns = list(shifts)
    for rows in tqdm(batches, desc=description, unit="batch", disable=not run.progress):
        batch = AsymmetricUnit.cat([units[row] for row in rows])
        with torch_threads(1):  # one crystal at a time: more threads wait for each other
            found = _kept(run, batch, settings.potential, dict(settings.options))
        energies[rows] = found["energies"]
        for place, row in enumerate(rows):
            shifts[row], turns[row] = found["shifts"][place], found["turns"][place]
    return Labelled(tuple(units), energies, tuple(shifts), tuple(turns))


def _kept(run: Run, batch: AsymmetricUnit, potential: str, options: Mapping[str, Any]) -> dict[str, Tensor]:
    digest = hashlib.sha256(f"{potential} {sorted(options.items())} {batch.template.to_dict()}".encode())
    for tensor in (batch.lattice_parameters, batch.frac_origins, batch.rotations):
        digest.update(tensor.contiguous().numpy().tobytes())
    path = run.path("gradients", f"{digest.hexdigest()[:24]}.safetensors")
    if not path.exists():
        write_atomically(path, save(_label(batch, potential, options)))
    return load_file(path)


def _label(batch: AsymmetricUnit, potential: str, options: Mapping[str, Any]) -> dict[str, Tensor]:
    gradient = potential_gradient(potential, options)
    shape = (len(batch), batch.template.n_units, 3)
    energies = torch.full(shape[:1], torch.nan, dtype=torch.float64)
    shifts, turns = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    for row in range(len(batch)):
        with suppress(ComputationError):  # out of the potential's range: stays NaN and is counted by the caller
            found = gradient(batch[row])
            energies[row], shifts[row], turns[row] = (part[0] for part in found)
    return {"energies": energies, "shifts": shifts, "turns": turns}


def potential_gradient(
    potential: str, options: Mapping[str, Any] | None = None, counter: EvaluationCounter | None = None
) -> PotentialGradient:
    """Energies and gradients of crystals by a named potential, per formula unit, in a fixed cell.

    Parameters
    ----------
    potential : str
    options : mapping, optional
        Of the potential.
    counter : EvaluationCounter, optional
        Gets every call.
    """
    calculator = get_calculator(potential, **(options or {}))

    def gradient(units: AsymmetricUnit) -> tuple[Tensor, Tensor, Tensor]:
        found = energy_and_gradient(units, calculator, stress=False, counter=counter)
        z = formula_units(template_tables(units.template))
        return found.energy / z, found.origins / z, found.rotations / z

    return gradient


def shaken(unit: AsymmetricUnit, largest: float, largest_turn: float, generator: torch.Generator) -> AsymmetricUnit:
    """A crystal with each unit moved at random, within what its site allows.

    Parameters
    ----------
    unit : AsymmetricUnit
        Batch of one, float64.
    largest, largest_turn : float
        The spread of moves is drawn from 0 to ``largest`` A, that of turns in the same proportion
        up to ``largest_turn`` radians.
    generator : torch.Generator
    """
    flat = FlatUnits.of([unit])
    share = torch.rand(1, generator=generator, dtype=torch.float64)
    shift, turn = (
        share * size * torch.randn(flat.n_units, 3, generator=generator, dtype=torch.float64)
        for size in (largest, largest_turn)
    )
    return batches_of(displaced(flat, shift, turn))[0]
