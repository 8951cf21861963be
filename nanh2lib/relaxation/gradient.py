"""Energies of crystals that torch can differentiate, whatever calculator they come from.

One vector-Jacobian product carries a calculator's forces and stress back through the expansion
to the parameters of the asymmetric unit: dE/dfrac = -F L^T and dE/dL = V L^-T sigma are handed
to autograd as the gradient of the energy with respect to the full crystal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import Crystals, expand_tensors, project
from nanh2lib.crystal.primitive import AtomOrbits, atom_orbits, primitive_crystals
from nanh2lib.energy.orbit_graph import OrbitGradient, SymmetryMismatch
from nanh2lib.errors import ComputationError, InputError, Nanh2Error
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import rotation_vector_to_matrix

FloatArray = NDArray[np.float64]


@dataclass
class EvaluationCounter:
    """How many energies (each with forces) were asked of a calculator."""

    evaluations: int = 0


def evaluate(
    species: Sequence[str],
    lattice: FloatArray,
    frac_coords: FloatArray,
    calculator: Any,
    *,
    stress: bool = True,
) -> tuple[float, FloatArray, FloatArray]:
    """Energy, forces and stress of one crystal from an ASE calculator.

    Parameters
    ----------
    species : sequence of str, length N
    lattice : ndarray, shape (3, 3)
        Rows, A.
    frac_coords : ndarray, shape (N, 3)
    calculator : ase.calculators.calculator.Calculator
    stress : bool
        Ask for the stress too; else zeros are returned for it.

    Returns
    -------
    energy : float
        eV per cell given.
    forces : ndarray, shape (N, 3)
        eV/A.
    stress : ndarray, shape (3, 3)
        eV/A^3, tension positive (ASE's sign).

    Raises
    ------
    InputError
        The stress is needed but the calculator has none.
    ComputationError
        The calculator failed.
    """
    from ase import Atoms
    from ase.calculators.calculator import PropertyNotImplementedError

    atoms = Atoms(list(species), scaled_positions=frac_coords, cell=lattice, pbc=True)
    atoms.calc = calculator
    tensor = np.zeros((3, 3))
    try:
        with torch.enable_grad():  # potentials differentiate their own energy, also where our caller does not
            forces = np.asarray(atoms.get_forces(), dtype=np.float64)
            energy = float(atoms.get_potential_energy())
            if stress:
                tensor = np.asarray(atoms.get_stress(voigt=False), dtype=np.float64)
    except PropertyNotImplementedError as error:
        name = type(calculator).__name__
        raise InputError(f"{name} gives no stress ({error}); keep the cell fixed or use another potential") from error
    except Nanh2Error:
        raise
    except (RuntimeError, ValueError, ArithmeticError, LookupError) as error:
        raise ComputationError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    return energy, forces, tensor


def _by_orbits(
    species: Sequence[str], lattice: FloatArray, frac_coords: FloatArray, calculator: Any, orbits: AtomOrbits | None
) -> OrbitGradient | None:
    """What a calculator that knows symmetry says; None where it does not, or where the crystal lacks it."""
    method = getattr(calculator, "orbit_gradient", None)
    if method is None or orbits is None or len(orbits.rotations) == 1:
        return None
    from ase import Atoms

    atoms = Atoms(list(species), scaled_positions=frac_coords, cell=lattice, pbc=True)
    try:
        with torch.enable_grad():  # as in `evaluate`
            result: OrbitGradient = method(atoms, orbits)
    except SymmetryMismatch:  # units off their sites: slower, not wrong
        return None
    except Nanh2Error:
        raise
    except (RuntimeError, ValueError, ArithmeticError, LookupError) as error:
        raise ComputationError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    return result


class _CalculatorEnergy(torch.autograd.Function):
    """Energies (B,) of crystals; backward hands out what the calculator's forces and stress say."""

    @staticmethod
    def forward(
        ctx: Any,
        lattice: Tensor,
        frac_coords: Tensor,
        species: tuple[str, ...],
        calculator: Any,
        stress: bool,
        orbits: AtomOrbits | None,
    ) -> Tensor:
        lattices = lattice.detach().to(torch.float64).cpu().numpy()
        coords = frac_coords.detach().to(torch.float64).cpu().numpy()
        energies, by_lattice, by_frac = [], [], []
        for cell, frac in zip(lattices, coords, strict=True):
            found = _by_orbits(species, cell, frac, calculator, orbits)
            if found is None:
                energy, forces, tensor = evaluate(species, cell, frac, calculator, stress=stress)
                found = OrbitGradient(energy, -forces, abs(np.linalg.det(cell)) * tensor)
            energies.append(found.energy)
            by_frac.append(found.positions @ cell.T)
            by_lattice.append(np.linalg.inv(cell).T @ (found.strain if stress else np.zeros((3, 3))))
        ctx.save_for_backward(
            torch.as_tensor(np.array(by_lattice)).to(lattice), torch.as_tensor(np.array(by_frac)).to(frac_coords)
        )
        return torch.tensor(energies, dtype=lattice.dtype, device=lattice.device)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        by_lattice, by_frac = ctx.saved_tensors
        weight = grad_outputs[0][:, None, None]
        return weight * by_lattice, weight * by_frac, None, None, None, None


def potential_energy(
    crystals: Crystals,
    calculator: Any,
    *,
    stress: bool = True,
    counter: EvaluationCounter | None = None,
    orbits: AtomOrbits | None = None,
) -> Tensor:
    """Energies of a batch of crystals, differentiable once.

    Parameters
    ----------
    crystals : Crystals
        Batch of B.
    calculator : ase.calculators.calculator.Calculator
    stress : bool
        With False the energy's dependence on the lattice at fixed fractions is left out of the
        gradient (the cell is fixed) and no stress is computed.
    counter : EvaluationCounter, optional
        Gets B evaluations more.
    orbits : AtomOrbits, optional
        Symmetry that all the crystals have. A calculator with an ``orbit_gradient`` then computes
        one atom of each orbit; the gradient holds for changes that keep the symmetry.

    Returns
    -------
    Tensor, shape (B,)
        eV per cell given.

    Raises
    ------
    ComputationError
        An energy or a force is not a finite number.
    """
    if counter is not None:
        counter.evaluations += len(crystals.lattice)
    arguments = (crystals.lattice, crystals.frac_coords, crystals.species, calculator, stress, orbits)
    energies: Tensor = _CalculatorEnergy.apply(*arguments)
    if not bool(torch.isfinite(energies).all()):
        raise ComputationError(f"the potential gave {energies.tolist()} eV; the structure is out of its range")
    return energies


def crystal_energy(
    asymmetric_unit: AsymmetricUnit,
    calculator: Any,
    *,
    stress: bool = True,
    project_sites: bool = True,
    counter: EvaluationCounter | None = None,
) -> Tensor:
    """Energies of asymmetric units, computed on the primitive cell, differentiable once.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of B; whatever its tensors were made from gets gradients (z through `decode`, say).
    calculator, stress, counter
        As in `potential_energy`.
    project_sites : bool
        As in `expand_tensors`.

    Returns
    -------
    Tensor, shape (B,)
        eV per conventional cell.
    """
    template = asymmetric_unit.template
    crystals = primitive_crystals(expand_tensors(asymmetric_unit, project_sites=project_sites), template)
    orbits = atom_orbits(template)
    energies = potential_energy(crystals, calculator, stress=stress, counter=counter, orbits=orbits)
    return energies * template.space_group.centering_order


@dataclass(frozen=True)
class EnergyGradient:
    """Energy of asymmetric units and its derivatives, per conventional cell.

    Attributes
    ----------
    energy : Tensor, shape (B,)
        eV.
    origins : Tensor, shape (B, U, 3)
        dE/d(Cartesian displacement) of each unit and all its images together, eV/A.
    rotations : Tensor, shape (B, U, 3)
        dE/d(rotation vector), multiplied from the left onto the orientation, eV/radian.
    lattice_parameters : Tensor, shape (B, 6)
        eV/A and eV/degree, at fixed fractional origins and Cartesian orientations.
    """

    energy: Tensor
    origins: Tensor
    rotations: Tensor
    lattice_parameters: Tensor


def energy_and_gradient(
    asymmetric_unit: AsymmetricUnit,
    calculator: Any,
    *,
    stress: bool = True,
    counter: EvaluationCounter | None = None,
) -> EnergyGradient:
    """Energy of asymmetric units and its gradient, by one vector-Jacobian product of the expansion.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of B; put on its sites first.
    calculator : ase.calculators.calculator.Calculator
    stress : bool
        False skips the stress; the gradient with respect to the lattice is then zero.
    counter : EvaluationCounter, optional

    Returns
    -------
    EnergyGradient
        Components that a site forbids are zero.
    """
    start = project(asymmetric_unit.detach())
    shape = (start.batch_size, start.template.n_units, 3)
    shift = torch.zeros(shape, dtype=start.dtype, requires_grad=True)
    turn = torch.zeros(shape, dtype=start.dtype, requires_grad=True)
    parameters = start.lattice_parameters.clone().requires_grad_(stress)
    inverse = torch.linalg.inv(lattice_parameters_to_matrix(start.lattice_parameters))
    moved = start.replace(
        lattice_parameters=parameters,
        frac_origins=start.frac_origins + shift @ inverse,
        rotations=rotation_vector_to_matrix(turn) @ start.rotations,
    )
    energy = crystal_energy(moved, calculator, stress=stress, counter=counter)
    energy.sum().backward()
    zero = torch.zeros_like(parameters)
    by_lattice = parameters.grad if parameters.grad is not None else zero
    none = torch.zeros(shape, dtype=start.dtype)
    by_shift = shift.grad if shift.grad is not None else none
    by_turn = turn.grad if turn.grad is not None else none
    return EnergyGradient(energy.detach(), by_shift, by_turn, by_lattice)
