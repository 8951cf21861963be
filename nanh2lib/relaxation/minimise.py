"""Downhill in the symmetry coordinates, with every energy call counted.

SciPy's L-BFGS-B works on coordinates scaled so that all have about the same curvature; its first
step has unit length in them, about 0.1 A. It is started again where float32 noise of a potential
stops its line search.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanh2lib.errors import ComputationError
from nanh2lib.relaxation.coordinates import SymmetryCoordinates
from nanh2lib.relaxation.gradient import EvaluationCounter, crystal_energy
from nanh2lib.relaxation.settings import RigidSettings

FloatArray = NDArray[np.float64]
GPA = 160.21766208
"""GPa in one eV/A^3."""


@dataclass(frozen=True)
class Point:
    """One evaluated point: free coordinates, eV per conventional cell, gradient and its measures."""

    x: FloatArray
    energy: float
    gradient: FloatArray
    fmax: float
    max_stress: float


class _Finished(Exception):
    """Raised inside the objective to leave the optimiser."""


@dataclass
class Objective:
    """Energy and gradient at x, remembering the best point and watching the limits.

    Attributes
    ----------
    coordinates : SymmetryCoordinates
    calculator : ase.calculators.calculator.Calculator
    settings : RigidSettings
    counter : EvaluationCounter
    path : list of Point
        Every point evaluated.
    stopped : str
        ``"converged"``, ``"limit"``, ``"exploded"``, ``"nan_energy"`` or, while running, empty.
    """

    coordinates: SymmetryCoordinates
    calculator: Any
    settings: RigidSettings
    counter: EvaluationCounter = field(default_factory=EvaluationCounter)
    path: list[Point] = field(default_factory=list)
    stopped: str = ""

    def __post_init__(self) -> None:
        start = self.coordinates.start
        self._multiplicity = torch.tensor(start.multiplicities, dtype=torch.float64)
        self._radius = torch.tensor([_radius(unit.body) for unit in start.units], dtype=torch.float64)
        self._atoms = start.template.n_atoms
        lattice = self._lattice(np.zeros(self.coordinates.size))
        self._volume = abs(float(np.linalg.det(lattice)))

    @property
    def best(self) -> Point:
        """Converged point if there is one, else the lowest."""
        return self.path[-1] if self.stopped == "converged" else min(self.path, key=lambda point: point.energy)

    def _lattice(self, x: FloatArray) -> FloatArray:
        from nanh2lib.geometry.lattice import lattice_parameters_to_matrix

        unit = self.coordinates.asymmetric_unit(torch.as_tensor(x))
        return np.asarray(lattice_parameters_to_matrix(unit.lattice_parameters)[0].numpy())

    def measures(self, gradient: FloatArray, volume: float) -> tuple[float, float]:
        """Largest force (eV/A; torques over the unit's radius) and stress (GPa) of a gradient."""
        force, torque, strain = self.coordinates.split(torch.as_tensor(gradient))
        per_unit = torch.cat([force, torque / self._radius[:, None]]).norm(dim=-1) / self._multiplicity.repeat(2)
        return float(per_unit.max()), float(strain.abs().max()) / volume * GPA

    def __call__(self, x: FloatArray) -> Point:
        """Evaluate at x (a repeat costs nothing); raises `_Finished` when there is a reason to stop."""
        for known in self.path:
            if np.array_equal(known.x, x):
                return known
        if self.counter.evaluations >= self.settings.max_evaluations:
            self.stopped = "limit"
            raise _Finished
        free = self.coordinates.free_cell
        volume = abs(float(np.linalg.det(self._lattice(x)))) if free else self._volume
        if not 1 / self.settings.max_volume_change < volume / self._volume < self.settings.max_volume_change:
            self.stopped = "exploded"
            raise _Finished
        variable = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        unit = self.coordinates.asymmetric_unit(variable)
        try:
            energy = crystal_energy(unit, self.calculator, stress=free, project_sites=False, counter=self.counter)
        except ComputationError:
            self.stopped = "nan_energy"
            raise _Finished from None
        energy.sum().backward()
        gradient = np.asarray(variable.grad, dtype=np.float64) if variable.grad is not None else np.zeros_like(x)
        point = Point(np.array(x), float(energy.detach()), gradient, *self.measures(gradient, volume))
        self._judge(point)
        return point

    def _judge(self, point: Point) -> None:
        if not np.isfinite(point.gradient).all():
            self.stopped = "nan_energy"
            raise _Finished
        self.path.append(point)
        if point.energy < self.path[0].energy - self.settings.max_energy_drop * self._atoms:
            self.stopped = "exploded"
            raise _Finished
        if point.fmax <= self.settings.fmax and point.max_stress <= self.settings.max_stress:
            self.stopped = "converged"
            raise _Finished


def _radius(body: FloatArray) -> float:
    return float(np.linalg.norm(body, axis=1).max()) or 1.0


def natural_metric(coordinates: SymmetryCoordinates) -> FloatArray:
    """Sum over all atoms of the conventional cell of the squared displacement per unit of each x.

    Parameters
    ----------
    coordinates : SymmetryCoordinates

    Returns
    -------
    ndarray, shape (D,)
        A^2 per squared unit of x (a strain is given 4 A^2 an atom).
    """
    start = coordinates.start
    bodies = [unit.body @ start.rotations[0, i].numpy().T for i, unit in enumerate(start.units)]
    moved = [
        sum(m * len(b) * float(v @ v) for m, b, v in zip(start.multiplicities, bodies, basis, strict=True))
        for basis in coordinates.origin_basis.numpy()
    ]
    turned = [
        sum(m * float((np.cross(v, b) ** 2).sum()) for m, b, v in zip(start.multiplicities, bodies, basis, strict=True))
        for basis in coordinates.turn_basis.numpy()
    ]
    strained = [4.0 * start.template.n_atoms] * len(coordinates.strain_basis)
    return np.array(moved + turned + strained)


STIFFNESS = 5.0
"""eV/A^2 an atom: the curvature that the scaled coordinates start from."""


def minimise(objective: Objective) -> None:
    """Run L-BFGS-B until the objective stops itself or no progress is possible.

    Parameters
    ----------
    objective : Objective
        Its ``path``, ``best`` and ``stopped`` hold the result; ``stopped`` becomes ``"stalled"``
        when the optimiser cannot lower the energy further.
    """
    from scipy.optimize import minimize

    scale = 1.0 / np.sqrt(STIFFNESS * natural_metric(objective.coordinates))

    def scaled(y: FloatArray) -> tuple[float, FloatArray]:
        point = objective(y * scale)
        return point.energy, point.gradient * scale

    y = np.zeros(objective.coordinates.size)
    try:
        objective(y)
        for _ in range(20):
            lowest = objective.best.energy
            options = {"maxcor": 50, "ftol": 0.0, "gtol": 0.0, "maxfun": 10**6, "maxiter": 10**6}
            minimize(scaled, y, jac=True, method="L-BFGS-B", options=options)
            y = objective.best.x / scale
            if objective.best.energy >= lowest - 1e-6 * objective.coordinates.start.template.n_atoms:
                break
        objective.stopped = "stalled"
    except _Finished:
        return
