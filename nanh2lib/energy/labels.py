"""Labels: energy, forces and stress of crystals by a named potential, each checked before it counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import GPa
from numpy.typing import NDArray
from pydantic import Field
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.energy.potentials import (
    DEFAULT_POTENTIAL,
    get_calculator,
    one_at_a_time,
    potential_hash,
    require_installed,
)
from nanh2lib.energy.primitive import primitive_with_map
from nanh2lib.energy.torch_runtime import torch_threads
from nanh2lib.errors import ComputationError, InputError, Nanh2Error
from nanh2lib.execution import UnitResult, WorkUnit, run_units
from nanh2lib.settings import StageSettings

FloatArray: TypeAlias = NDArray[np.float64]


class LabelSettings(StageSettings):
    """How crystals are labelled.

    Attributes
    ----------
    potential : str
        A name of `nanh2lib.energy.potentials.POTENTIALS`, or ``"module:factory"``.
    options : mapping
        Options of the potential: fields of `GpawSettings`, or keyword arguments of the factory.
    threads : int or None
        Threads of torch for each evaluation; None leaves torch's own number.
    primitive : bool
        Evaluate the primitive cell of a centred one (2 to 4 times cheaper; forces are mapped back).
    max_energy_per_atom : float
        eV; a larger magnitude means that the structure has exploded.
    max_force : float
        eV/A; likewise.
    """

    potential: str = DEFAULT_POTENTIAL
    options: Mapping[str, Any] = Field(default_factory=dict)
    threads: int | None = Field(default=None, ge=1)
    primitive: bool = True
    max_energy_per_atom: float = Field(default=100.0, gt=0)
    max_force: float = Field(default=1000.0, gt=0)

    @property
    def potential_hash(self) -> str:
        """Key of the labels that these settings make."""
        return potential_hash(self.potential, **self.options)


@dataclass(frozen=True)
class EnergyResult:
    """A label: finite numbers of one crystal at one potential.

    Attributes
    ----------
    energy : float
        eV per cell of the structure.
    energy_per_fu : float
        eV per formula unit.
    forces : ndarray, shape (N, 3)
        eV/A, in the order of the structure's sites.
    stress : ndarray, shape (3, 3), or None
        GPa, positive where the crystal wants to shrink; None where the potential has no stress.
    seconds : float
        Wall time.
    potential, potential_hash : str
    """

    energy: float
    energy_per_fu: float
    forces: FloatArray
    stress: FloatArray | None
    seconds: float
    potential: str
    potential_hash: str


@dataclass(frozen=True)
class EnergyFailure:
    """Why a crystal has no label at a potential.

    Attributes
    ----------
    reason : str
    potential : str
        Name.
    potential_hash : str
        Of the name, version, weights and options.
    """

    reason: str
    potential: str
    potential_hash: str


def formula_units(structure: Structure, compound: Compound | None = None) -> int:
    """Formula units in the cell: of the compound, or of the formula with the smallest whole numbers.

    Raises
    ------
    InputError
        The composition is not a whole multiple of the compound.
    """
    if compound is not None:
        return compound.formula_units(structure.composition)
    return round(structure.composition.get_integer_formula_and_factor()[1])


def energy_per_formula_unit(
    structure: Structure, potential: str = DEFAULT_POTENTIAL, compound: Compound | None = None, **options: Any
) -> float:
    """Energy in eV per formula unit; see `evaluate`."""
    return evaluate(structure, LabelSettings(potential=potential, options=options), compound).energy_per_fu


@one_at_a_time
def evaluate(
    structure: Structure, settings: LabelSettings | None = None, compound: Compound | None = None
) -> EnergyResult:
    """Energy, forces and stress of one crystal as it is.

    Parameters
    ----------
    structure : Structure
        Ordered crystal; not changed.
    settings : LabelSettings, optional
        Default: SevenNet-0.
    compound : Compound, optional
        Fixes what a formula unit is.

    Raises
    ------
    InputError
        The structure is disordered or does not fit the compound, or the potential is unknown.
    MissingDependencyError
        The potential is not installed.
    ComputationError
        No usable number came out: NaN, infinite, exploded, no convergence, an unknown element.
    """
    settings = settings if settings is not None else LabelSettings()
    if not structure.is_ordered:
        raise InputError(f"{structure.composition.formula}: sites are partly occupied; give an ordered structure")
    n_units = formula_units(structure, compound)
    calculator = get_calculator(settings.potential, **settings.options)
    start = time.perf_counter()
    with torch_threads(settings.threads):
        energy, forces, stress = _compute(structure, calculator, settings)
    return EnergyResult(
        energy=energy,
        energy_per_fu=energy / n_units,
        forces=forces,
        stress=stress,
        seconds=time.perf_counter() - start,
        potential=settings.potential,
        potential_hash=settings.potential_hash,
    )


def _compute(
    structure: Structure, calculator: Calculator, settings: LabelSettings
) -> tuple[float, FloatArray, FloatArray | None]:
    """Energy (eV), forces (eV/A) and stress (GPa) of the whole cell, checked."""
    cell, index = primitive_with_map(structure) if settings.primitive else (structure, np.arange(len(structure)))
    atoms = AseAtomsAdaptor.get_atoms(cell, msonable=False)
    place = f"{structure.composition.formula} at {settings.potential}"
    try:
        forces = np.asarray(calculator.get_property("forces", atoms), dtype=np.float64)
        energy = float(calculator.get_property("energy", atoms)) * (len(structure) / len(cell))
        stress = _stress(calculator, atoms)
    except Nanh2Error:
        raise
    except (RuntimeError, ValueError, ArithmeticError, LookupError, NotImplementedError) as error:
        raise ComputationError(f"{place}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    _check_finite(place, energy, forces, stress)
    if abs(energy) > settings.max_energy_per_atom * len(structure):
        raise ComputationError(
            f"{place}: exploded: {energy / len(structure):.1f} eV per atom (limit {settings.max_energy_per_atom:g})"
        )
    strongest = float(np.linalg.norm(forces, axis=1).max())
    if strongest > settings.max_force:
        raise ComputationError(
            f"{place}: exploded: a force of {strongest:.0f} eV/A (limit {settings.max_force:g}); "
            "atoms overlap, check the contacts first"
        )
    return energy, forces[index], stress


def _stress(calculator: Calculator, atoms: Any) -> FloatArray | None:
    try:
        stress = np.asarray(calculator.get_property("stress", atoms), dtype=np.float64)
    except PropertyNotImplementedError:
        return None
    full = stress if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)
    return np.asarray(full / GPa)


def _check_finite(place: str, energy: float, forces: FloatArray, stress: FloatArray | None) -> None:
    for name, value in (("energy", energy), ("forces", forces), ("stress", stress)):
        if value is not None and not np.isfinite(value).all():
            raise ComputationError(f"{place}: {name} not finite (NaN or infinite); check the structure")


def label_structures(
    structures: Mapping[str, Structure] | Sequence[Structure],
    settings: LabelSettings | str | None = None,
    executor: Executor | None = None,
    compound: Compound | None = None,
    on_result: Callable[[str, EnergyResult | EnergyFailure], None] | None = None,
    progress: bool = True,
) -> dict[str, EnergyResult | EnergyFailure]:
    """Label many crystals; one that cannot be labelled gets its reason, never a number.

    Parameters
    ----------
    structures : mapping of key to Structure, or sequence
        A sequence gets the keys ``"0"``, ``"1"``, ...
    settings : LabelSettings or str, optional
        Or only the name of a potential.
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.
    compound : Compound, optional
        Fixes what a formula unit is.
    on_result : callable, optional
        Called in this process with key and label as each arrives; write it to the store here.
    progress : bool

    Returns
    -------
    dict
        Label or failure by key, in the order given.

    Raises
    ------
    InputError, MissingDependencyError
        The potential is unknown or not installed: said once, before any work starts.
    """
    if isinstance(settings, str):
        settings = LabelSettings(potential=settings)
    settings = settings if settings is not None else LabelSettings()
    if not isinstance(structures, Mapping):
        structures = {str(i): structure for i, structure in enumerate(structures)}
    require_installed(settings.potential)
    if executor is None:
        get_calculator(settings.potential, **settings.options)
    key_of_labels = settings.potential_hash

    def convert(result: UnitResult) -> EnergyResult | EnergyFailure:
        if isinstance(result.value, EnergyResult):
            return result.value
        return EnergyFailure(result.error or "no result", settings.potential, key_of_labels)

    results = run_units(
        evaluate,
        [WorkUnit(key, (structure, settings, compound)) for key, structure in structures.items()],
        executor,
        on_result=None if on_result is None else lambda result: on_result(result.key, convert(result)),
        progress=progress,
        description=f"label {settings.potential}",
    )
    return {result.key: convert(result) for result in results}
