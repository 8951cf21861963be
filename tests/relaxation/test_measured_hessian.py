"""A Hessian from one potential speeds up the descent of the same or another one."""

from __future__ import annotations

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes

from nanh2lib.energy.kept_calculator import KeptCalculator
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.relaxation import AtomsSettings, crystal_energy
from nanh2lib.relaxation.coordinates import SymmetryCoordinates, natural_metric
from nanh2lib.relaxation.measured_hessian import measured_hessian
from nanh2lib.relaxation.minimise import NOISE, minimise
from nanh2lib.relaxation.objective import Objective
from tests.relaxation import crystals


def test_it_is_the_second_derivative_of_the_energy():
    coordinates = SymmetryCoordinates.of(crystals.p21212(), free_cell=True)
    calculator = crystals.lennard_jones()
    found = measured_hessian(coordinates, calculator, step=1e-3, floor=1e-9)

    def energy(x):
        return float(crystal_energy(coordinates.asymmetric_unit(torch.as_tensor(x)), calculator, project_sites=False))

    step, size = 1e-3, coordinates.size
    expected = np.zeros((size, size))
    unit = np.eye(size) * step
    for i in range(size):
        for j in range(size):
            signs = [(a, b, a * b) for a in (1, -1) for b in (1, -1)]
            terms = [c * energy(a * unit[i] + b * unit[j]) for a, b, c in signs]
            expected[i, j] = sum(terms) / (4 * step**2)
    scale = 1 / np.sqrt(natural_metric(coordinates))
    values, vectors = np.linalg.eigh(scale[:, None] * expected * scale)
    expected = (vectors * np.abs(values)) @ vectors.T / scale[:, None] / scale
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert np.linalg.eigvalsh(found).min() > 0


class Counted(Calculator):
    """CHGNet, its calls counted."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self):
        super().__init__()
        self.calls = 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        other = self.atoms.copy()
        other.calc = get_calculator("chgnet")
        self.results = {
            "energy": other.get_potential_energy(),
            "forces": other.get_forces(),
            "stress": other.get_stress(),
        }


class Drifting(Counted):
    """An energy that is 2 meV a cell too high more with each call; forces and stress are right."""

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] += 0.002 * self.calls


def descend(calculator, hessian=None, limit=60, noise=NOISE):
    coordinates = SymmetryCoordinates.of(crystals.p21212(), free_cell=True)
    objective = Objective(coordinates, calculator, AtomsSettings(fmax=0.01, max_stress=0.05, max_evaluations=limit))
    minimise(objective, hessian, noise)
    return objective


def test_a_descent_that_was_killed_goes_on_without_a_call_for_what_it_had():
    whole = descend(KeptCalculator(Counted()))
    written: list = []
    descend(KeptCalculator(Counted(), keep=lambda rows: written.append(list(rows))), limit=5)
    assert len(written) == len(written[-1]) == 5
    inner = Counted()
    again = descend(KeptCalculator(inner, written[-1]))
    assert again.stopped == whole.stopped == "converged"
    assert again.best.energy == whole.best.energy
    assert inner.calls == len(whole.path) - 5


def test_with_a_measured_hessian_a_descent_takes_fewer_calls():
    coordinates = SymmetryCoordinates.of(crystals.p21212(), free_cell=True)
    measured = descend(Counted(), measured_hessian(coordinates, get_calculator("chgnet")))
    assert measured.stopped == "converged"
    assert len(measured.path) < len(descend(Counted()).path)


def test_false_rises_of_the_energy_do_not_stop_a_descent_that_is_told_of_them():
    assert descend(Drifting()).stopped != "converged"
    told = descend(Drifting(), noise=5e-4)
    assert told.stopped == "converged"
    assert told.best.fmax <= 0.01


def test_other_cell_vectors_and_an_extra_virial():
    atoms_change = [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    plain = descend(KeptCalculator(Counted()), limit=1).path[0]
    skewed = descend(KeptCalculator(Counted(), cell_change=atoms_change), limit=1).path[0]
    np.testing.assert_allclose(skewed.gradient, plain.gradient, atol=5e-5 * np.abs(plain.gradient).max())  # float32
    coordinates = SymmetryCoordinates.of(crystals.p21212(), free_cell=True)
    virial = [1.0, 1.0, 2.0, 0, 0, 0]
    pressed = descend(KeptCalculator(Counted(), extra_virial=virial), limit=1).path[0]
    change = pressed.gradient - plain.gradient
    strains = len(coordinates.strain_basis)
    expected = np.einsum("kii,i->k", coordinates.strain_basis.numpy(), virial[:3])
    np.testing.assert_allclose(change[-strains:], expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(change[:-strains], 0, atol=1e-6)
