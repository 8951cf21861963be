"""Energy and gradient in the symmetry coordinates, with the limits that end a descent."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from nanh2lib.errors import ComputationError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.relaxation.coordinates import SymmetryCoordinates
from nanh2lib.relaxation.gradient import EvaluationCounter, crystal_energy
from nanh2lib.relaxation.settings import DescentSettings

FloatArray = NDArray[np.float64]
GPA = 160.21766208
"""GPa in one eV/A^3."""
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One evaluated point.

    Attributes
    ----------
    x : ndarray, shape (D,)
        Free coordinates in the units of `SymmetryCoordinates`.
    energy : float
        eV per conventional cell.
    gradient : ndarray, shape (D,)
        Of the energy, eV per unit of x.
    fmax : float
        Largest force, eV/A.
    max_stress : float
        Largest component of the stress, GPa.
    """

    x: FloatArray
    energy: float
    gradient: FloatArray
    fmax: float
    max_stress: float


class Finished(Exception):
    """Raised by the objective to leave the optimiser."""


@dataclass
class Objective:
    """Energy and gradient at x, remembering the path and watching the limits.

    Attributes
    ----------
    coordinates : SymmetryCoordinates
    calculator : ase.calculators.calculator.Calculator
    settings : DescentSettings
    counter : EvaluationCounter
    path : list of Point
        Every point evaluated.
    stopped : str
        ``"converged"``, ``"limit"``, ``"stalled"``, ``"exploded"``, ``"nan_energy"`` or, while
        running, empty.
    """

    coordinates: SymmetryCoordinates
    calculator: Any
    settings: DescentSettings
    counter: EvaluationCounter = field(default_factory=EvaluationCounter)
    path: list[Point] = field(default_factory=list)
    stopped: str = ""

    def __post_init__(self) -> None:
        start = self.coordinates.start
        self._multiplicity = torch.tensor(start.multiplicities, dtype=torch.float64)
        self._radius = torch.as_tensor(self.coordinates.radii)
        self._atoms = start.template.n_atoms
        self._volume = self._volume_at(np.zeros(self.coordinates.size))

    @property
    def best(self) -> Point:
        """The converged point if there is one, else the lowest."""
        return self.path[-1] if self.stopped == "converged" else min(self.path, key=lambda point: point.energy)

    def _volume_at(self, x: FloatArray) -> float:
        unit = self.coordinates.asymmetric_unit(torch.as_tensor(x))
        return abs(float(torch.linalg.det(lattice_parameters_to_matrix(unit.lattice_parameters))))

    def measures(self, gradient: FloatArray, volume: float) -> tuple[float, float]:
        """Largest force (eV/A; torques over the unit's radius) and stress (GPa) of a gradient."""
        force, torque, strain = self.coordinates.split(torch.as_tensor(gradient))
        per_unit = torch.cat([force, torque / self._radius[:, None]]).norm(dim=-1) / self._multiplicity.repeat(2)
        return float(per_unit.max()), float(strain.abs().max()) / volume * GPA

    def __call__(self, x: FloatArray) -> Point:
        """Evaluate at x (a repeat costs nothing); raises `Finished` when there is a reason to stop."""
        for known in self.path:
            if np.array_equal(known.x, x):
                return known
        if self.counter.evaluations >= self.settings.max_evaluations:
            self._stop("limit")
        free = self.coordinates.free_cell
        volume = self._volume_at(x) if free else self._volume
        ratio = volume / self._volume
        if not 1 / self.settings.max_volume_change < ratio < self.settings.max_volume_change:
            self._stop("exploded")
        variable = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        unit = self.coordinates.asymmetric_unit(variable)
        try:
            energy = crystal_energy(unit, self.calculator, stress=free, project_sites=False, counter=self.counter)
        except ComputationError as error:
            _LOGGER.warning("a descent ends after %d energies: %s", self.counter.evaluations, error)
            self._stop("nan_energy")
        if energy.requires_grad:
            energy.sum().backward()
        gradient = np.zeros_like(x) if variable.grad is None else np.asarray(variable.grad, dtype=np.float64)
        point = Point(np.array(x), float(energy.detach()), gradient, *self.measures(gradient, volume))
        self._judge(point)
        return point

    def _judge(self, point: Point) -> None:
        if not np.isfinite(point.gradient).all():
            self._stop("nan_energy")
        self.path.append(point)
        if point.energy < self.path[0].energy - self.settings.max_energy_drop * self._atoms:
            self._stop("exploded")
        if point.fmax <= self.settings.fmax and point.max_stress <= self.settings.max_stress:
            self._stop("converged")

    def _stop(self, reason: str) -> NoReturn:
        self.stopped = reason
        raise Finished(reason)
