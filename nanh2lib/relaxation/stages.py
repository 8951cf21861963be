"""The stages of a relaxation, each from an asymmetric unit to a `RelaxationResult`."""

from __future__ import annotations

from typing import Any

import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand, project
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation.coordinates import SymmetryCoordinates
from nanh2lib.relaxation.minimise import Objective, minimise
from nanh2lib.relaxation.quality import formula_units, symmetry_flags, symmetry_of
from nanh2lib.relaxation.settings import RigidSettings


def relax_rigid(
    asymmetric_unit: AsymmetricUnit, calculator: Any, settings: RigidSettings | None = None
) -> RelaxationResult:
    """Relax rigid units in the asymmetric unit; space group and sites are kept.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of one.
    calculator : ase.calculators.calculator.Calculator
        Energies, forces and (free cell) stress.
    settings : RigidSettings, optional

    Returns
    -------
    RelaxationResult
        Stage ``"rigid_fixed"`` or ``"rigid"``. Energies in eV per formula unit; ``fmax`` is the
        largest force on a unit or torque over its radius, eV/A.

    Raises
    ------
    InputError
        The batch does not hold exactly one crystal.
    """
    settings = settings or RigidSettings()
    coordinates = SymmetryCoordinates.of(asymmetric_unit, free_cell=settings.cell == "free")
    objective = Objective(coordinates, calculator, settings)
    minimise(objective)
    stage = "rigid" if settings.cell == "free" else "rigid_fixed"
    return _result(objective, stage)


def _result(objective: Objective, stage: str) -> RelaxationResult:
    start = objective.coordinates.start
    before = expand(start)[0]
    flags: tuple[str, ...] = (objective.stopped,) if objective.stopped in ("exploded", "nan_energy") else ()
    symmetry_before = symmetry_of(before)
    if not objective.path:
        number = symmetry_before[0]
        nan = float("nan")
        return RelaxationResult(
            before, stage, objective.settings.potential, nan, nan, objective.counter.evaluations, False,
            number, number, flags, asymmetric_unit=start,
        )  # fmt: skip
    best = objective.best
    final = project(objective.coordinates.asymmetric_unit(torch.as_tensor(best.x)).detach())
    after = expand(final)[0]
    symmetry_after = symmetry_of(after)
    per_formula_unit = 1.0 / formula_units(start.template)
    return RelaxationResult(
        structure=after,
        stage=stage,
        potential=objective.settings.potential,
        energy_start=objective.path[0].energy * per_formula_unit,
        energy_final=best.energy * per_formula_unit,
        evaluations=objective.counter.evaluations,
        converged=objective.stopped == "converged",
        space_group_before=symmetry_before[0],
        space_group_after=symmetry_after[0],
        flags=flags + symmetry_flags(symmetry_before, symmetry_after),
        fmax=best.fmax,
        max_stress=best.max_stress,
        asymmetric_unit=final,
    )
