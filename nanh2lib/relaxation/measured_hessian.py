"""Curvature in the symmetry coordinates, measured with a cheap potential for the descent of a dear one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanh2lib.relaxation.coordinates import SymmetryCoordinates, natural_metric
from nanh2lib.relaxation.gradient import crystal_energy
from nanh2lib.relaxation.minimise import step_length

FloatArray = NDArray[np.float64]
FLOOR = 0.4
"""eV/A^2 an atom: smaller curvatures are raised to it, so that no step is long and none leads uphill."""


def measured_hessian(
    coordinates: SymmetryCoordinates, calculator: Any, step: float = 0.02, floor: float = FLOOR
) -> FloatArray:
    """Central differences of the gradient at x = 0, made positive definite.

    A negative curvature is taken by its size: along such a direction the descent goes as far as along
    a valley of that curvature.

    Parameters
    ----------
    coordinates : SymmetryCoordinates
    calculator : ase.calculators.calculator.Calculator
        Called 2 D times.
    step : float
        Longest move of an atom, A, as `nanh2lib.relaxation.minimise.step_length` measures it; wide,
        because universal potentials compute in float32.
    floor : float
        Smallest curvature, eV/A^2 an atom.

    Returns
    -------
    ndarray, shape (D, D)
        eV per conventional cell and squared unit of x.
    """

    def gradient(x: FloatArray) -> FloatArray:
        variable = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        unit = coordinates.asymmetric_unit(variable)
        crystal_energy(unit, calculator, stress=coordinates.free_cell, project_sites=False).sum().backward()
        return np.zeros_like(x) if variable.grad is None else np.asarray(variable.grad, dtype=np.float64)

    rows = []
    for k in range(coordinates.size):
        x = np.zeros(coordinates.size)
        x[k] = 1.0
        x *= step / step_length(coordinates, x)
        rows.append((gradient(x) - gradient(-x)) / (2 * x[k]))
    hessian = np.array(rows)
    # In units in which every coordinate moves the atoms alike, curvatures are per atom.
    scale = 1.0 / np.sqrt(natural_metric(coordinates))
    scaled = scale[:, None] * (hessian + hessian.T) / 2 * scale
    values, vectors = np.linalg.eigh(scaled)
    scaled = (vectors * np.maximum(np.abs(values), floor)) @ vectors.T
    return np.asarray(scaled / scale[:, None] / scale)
