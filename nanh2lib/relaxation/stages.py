"""The stages of a relaxation: rigid units, all atoms, symmetry released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.atoms import AtomsView, atom_unit, atoms_asymmetric_unit, atoms_of_structure
from nanh2lib.crystal.connectivity import find_fragments, infer_units, unit_for
from nanh2lib.crystal.expansion import expand, expand_tensors, project
from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.energy.labels import formula_units
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.errors import InputError
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation.coordinates import SymmetryCoordinates
from nanh2lib.relaxation.minimise import minimise
from nanh2lib.relaxation.objective import Objective
from nanh2lib.relaxation.quality import SYMPREC, broken_fragments, fused_units, symmetry_flags, symmetry_of
from nanh2lib.relaxation.settings import AtomsSettings, FragmentLimits, ReleaseSettings, RigidSettings

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Engine:
    """A potential ready for use: its name in results and its calculator."""

    name: str
    calculator: Any

    @classmethod
    def of(cls, potential: Any, **options: Any) -> Engine:
        """From a potential's name, an ASE calculator, or an engine.

        Raises
        ------
        InputError, MissingDependencyError
            As `get_calculator`.
        """
        if isinstance(potential, Engine):
            return potential
        if isinstance(potential, str):
            return cls(potential, get_calculator(potential, **options))
        if not hasattr(potential, "get_property"):
            raise InputError(f"{potential!r} is neither the name of a potential nor an ASE calculator")
        return cls(type(potential).__name__, potential)


def relax_rigid(
    asymmetric_unit: AsymmetricUnit,
    potential: Any,
    settings: RigidSettings | None = None,
    compound: Compound | None = None,
    symprec: float = SYMPREC,
) -> RelaxationResult:
    """Relax rigid units in the asymmetric unit; space group and sites are kept.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of one.
    potential : str, ase.calculators.calculator.Calculator or Engine
    settings : RigidSettings, optional
        Fixed cell unless ``cell="free"``.
    compound : Compound, optional
        Fixes what a formula unit is.
    symprec : float
        A, for the space groups before and after.

    Returns
    -------
    RelaxationResult
        Stage ``"rigid_fixed"`` or ``"rigid"``; ``fmax`` is the largest force on a unit or torque
        over its radius, eV/A. Flag ``"broken_fragment"`` where two molecules ended so close that
        their atoms count as bonded (see `fused_units`).

    Raises
    ------
    InputError
        The batch does not hold exactly one crystal, or the potential has no stress.
    """
    settings = settings or RigidSettings()
    engine = Engine.of(potential)
    coordinates = SymmetryCoordinates.of(asymmetric_unit, free_cell=settings.cell == "free")
    objective = Objective(coordinates, engine.calculator, settings)
    minimise(objective)
    before = expand(coordinates.start)[0]
    final = _final(objective)
    after = expand(final)[0]
    stage = "rigid" if settings.cell == "free" else "rigid_fixed"
    symmetry = symmetry_of(before, symprec), symmetry_of(after, symprec)
    fused = fused_units(after, after.site_properties["unit_index"])
    flags = symmetry_flags(*symmetry, _group(final)) + (("broken_fragment",) if fused else ())
    return _record(objective, engine, stage, after, final, symmetry, compound, flags)


def relax_atoms(
    crystal: AsymmetricUnit | Structure,
    potential: Any,
    settings: AtomsSettings | None = None,
    compound: Compound | None = None,
    symprec: float = SYMPREC,
    fragments: FragmentLimits | None = None,
) -> RelaxationResult:
    """Relax all atoms, space group and Wyckoff sites kept.

    Parameters
    ----------
    crystal : AsymmetricUnit or Structure
        Batch of one of rigid units or atoms, or a conventional cell in a tabulated setting.
    potential, compound, symprec
        As in `relax_rigid`.
    settings : AtomsSettings, optional
    fragments : FragmentLimits, optional
        When molecules count as broken.

    Returns
    -------
    RelaxationResult
        Stage ``"all_atom"``. Its ``asymmetric_unit`` has single atoms as units; the sites of
        ``structure`` keep the order of the input.
    """
    settings = settings or AtomsSettings()
    view, before = _as_atoms(crystal, symprec)
    return _relax_view(view, before, "all_atom", Engine.of(potential), settings, compound, symprec, fragments)


def release(
    crystal: AsymmetricUnit | Structure,
    potential: Any,
    settings: ReleaseSettings | None = None,
    compound: Compound | None = None,
    fragments: FragmentLimits | None = None,
) -> RelaxationResult:
    """Kick all atoms and the cell a little and relax in P1, to see whether the crystal comes back.

    Parameters
    ----------
    crystal, potential, compound, fragments
        As in `relax_atoms`.
    settings : ReleaseSettings, optional

    Returns
    -------
    RelaxationResult
        Stage ``"released"``; ``energy_start`` is that of the crystal before the kick. Flag
        ``"symmetry_lost"`` where the space group is not found again at ``settings.symprec``:
        the crystal was no minimum.
    """
    settings = settings or ReleaseSettings()
    engine = Engine.of(potential)
    before = expand(crystal)[0] if isinstance(crystal, AsymmetricUnit) else crystal
    view = _kicked(before, settings)
    unkicked = SymmetryCoordinates.of(_in_p1(before), free_cell=settings.cell == "free")
    reference = Objective(unkicked, engine.calculator, settings.model_copy(update={"max_evaluations": 1}))
    minimise(reference)
    result = _relax_view(view, before, "released", engine, settings, compound, settings.symprec, fragments)
    cell_energy = reference.path[0].energy if reference.path else float("nan")
    changes = {
        "energy_start": cell_energy / formula_units(before, compound),
        "evaluations": result.evaluations + reference.counter.evaluations,
    }
    return RelaxationResult(**{**result.__dict__, **changes})


def _relax_view(
    view: AtomsView,
    before: Structure,
    stage: str,
    engine: Engine,
    settings: AtomsSettings | ReleaseSettings,
    compound: Compound | None,
    symprec: float,
    limits: FragmentLimits | None,
) -> RelaxationResult:
    coordinates = SymmetryCoordinates.of(view.asymmetric_unit, free_cell=settings.cell == "free")
    objective = Objective(coordinates, engine.calculator, settings)
    minimise(objective)
    final = _final(objective)
    after = _in_order(final, view.order, before)
    symmetry = symmetry_of(before, symprec), symmetry_of(after, symprec)
    kept = None if stage == "released" else _group(final)
    flags = symmetry_flags(*symmetry, kept) + _fragment_flags(before, after, compound, limits or FragmentLimits())
    return _record(objective, engine, stage, after, final, symmetry, compound, flags)


def _group(unit: AsymmetricUnit) -> tuple[int, int]:
    """Number and order of the group that an asymmetric unit is expanded with."""
    group = unit.template.space_group
    return group.number, group.order


def _as_atoms(crystal: AsymmetricUnit | Structure, symprec: float) -> tuple[AtomsView, Structure]:
    if isinstance(crystal, AsymmetricUnit):
        if crystal.batch_size != 1:
            raise InputError(f"relaxation takes one crystal at a time, got a batch of {crystal.batch_size}; index it")
        return atoms_asymmetric_unit(crystal), expand(crystal)[0]
    return atoms_of_structure(crystal, symprec), crystal


def _fragment_flags(
    before: Structure, after: Structure, compound: Compound | None, limits: FragmentLimits
) -> tuple[str, ...]:
    fragments = tuple(find_fragments(before))
    lattice = before.lattice.matrix
    kinds = compound.units if compound is not None else infer_units(fragments, lattice)
    units = tuple(kinds[unit_for(fragment, kinds, lattice)[0]] for fragment in fragments)
    return ("broken_fragment",) if broken_fragments(after, fragments, units, limits) else ()


def _in_p1(structure: Structure) -> AsymmetricUnit:
    template = Template(1, tuple(Site(atom_unit(site.specie.symbol), "a") for site in structure))
    return AsymmetricUnit(
        template,
        torch.tensor([structure.lattice.parameters], dtype=torch.float64),
        torch.as_tensor(np.array(structure.frac_coords))[None],
        torch.eye(3, dtype=torch.float64).repeat(1, len(structure), 1, 1),
    )


def _kicked(structure: Structure, settings: ReleaseSettings) -> AtomsView:
    generator = np.random.default_rng(settings.seed)
    shifts = generator.normal(scale=settings.kick / np.sqrt(3), size=(len(structure), 3))
    strain = generator.normal(scale=settings.strain_kick, size=(3, 3))
    matrix = structure.lattice.matrix
    if settings.cell == "free":
        matrix = matrix @ (np.eye(3) + (strain + strain.T) / 2)
    frac = structure.frac_coords + shifts @ np.linalg.inv(matrix)
    return AtomsView(_in_p1(Structure(Lattice(matrix), structure.species, frac)), np.arange(len(structure)))


def _final(objective: Objective) -> AsymmetricUnit:
    if not objective.path:
        return objective.coordinates.start
    return project(objective.coordinates.asymmetric_unit(torch.as_tensor(objective.best.x)).detach())


def _in_order(unit: AsymmetricUnit, order: NDArray[np.int64], before: Structure) -> Structure:
    """Full crystal with its sites in the order of ``before`` and that one's site properties."""
    crystals = expand_tensors(unit, project_sites=False)
    frac = crystals.frac_coords[0].numpy()[order]
    species = [crystals.species[i] for i in order]
    lattice = Lattice(crystals.lattice[0].numpy())
    return Structure(lattice, species, frac - np.floor(frac + 1e-12), site_properties=before.site_properties)


def _record(
    objective: Objective,
    engine: Engine,
    stage: str,
    after: Structure,
    final: AsymmetricUnit,
    symmetry: tuple[tuple[int, int], tuple[int, int]],
    compound: Compound | None,
    flags: tuple[str, ...],
) -> RelaxationResult:
    reason = (objective.stopped,) if objective.stopped in ("exploded", "nan_energy") else ()
    nan = float("nan")
    best = objective.best if objective.path else None
    units = formula_units(after, compound)
    return RelaxationResult(
        structure=after,
        stage=stage,
        potential=engine.name,
        energy_start=objective.path[0].energy / units if objective.path else nan,
        energy_final=best.energy / units if best else nan,
        evaluations=objective.counter.evaluations,
        converged=objective.stopped == "converged",
        space_group_before=symmetry[0][0],
        space_group_after=symmetry[1][0],
        flags=reason + flags,
        fmax=best.fmax if best else nan,
        max_stress=best.max_stress if best else nan,
        asymmetric_unit=final,
    )
