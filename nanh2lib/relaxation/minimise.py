"""Downhill in the symmetry coordinates, every energy call counted.

The default is BFGS from a model Hessian with steps of limited length and no line search: on
crystals from random search it needs about one call a step, and float32 noise of a potential
cannot stop it. SciPy's L-BFGS-B is the alternative.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nanh2lib.relaxation.coordinates import SymmetryCoordinates, natural_metric
from nanh2lib.relaxation.model_hessian import model_hessian
from nanh2lib.relaxation.objective import Finished, Objective

FloatArray = NDArray[np.float64]
NOISE = 1e-5
"""eV per atom: a smaller rise of the energy is noise."""
SHORTEST_STEP = 1e-4
"""A: a step limit below this ends the descent."""


def minimise(objective: Objective, hessian: FloatArray | None = None, noise: float = NOISE) -> None:
    """Go downhill from x = 0 until the objective stops itself or no progress is possible.

    Parameters
    ----------
    objective : Objective
        Its ``path``, ``best`` and ``stopped`` hold the result; ``stopped`` becomes ``"stalled"``
        when the energy cannot be lowered further.
    hessian : ndarray, shape (D, D), optional
        Curvature to start from; the springs of `model_hessian` when absent.
    noise : float
        A smaller rise of the energy does not end a step, eV per atom. Plane waves need more than a
        potential: their number jumps as the cell changes, and the energy at one cutoff with it.
    """
    if objective.coordinates.size == 0:
        _once(objective)
        return
    if hessian is None:
        hessian = model_hessian(objective.coordinates)
    try:
        if objective.settings.method == "bfgs":
            _bfgs(objective, hessian, noise * objective.coordinates.start.template.n_atoms)
        else:
            _lbfgs(objective, noise * objective.coordinates.start.template.n_atoms)
    except Finished:
        return
    objective.stopped = "stalled"


def _once(objective: Objective) -> None:
    try:
        objective(np.zeros(0))
    except Finished:
        return


def _bfgs(objective: Objective, hessian: FloatArray, noise: float) -> None:
    coordinates, longest = objective.coordinates, objective.settings.max_step
    limit = longest
    point = objective(np.zeros(coordinates.size))
    while limit > SHORTEST_STEP:
        step = np.asarray(-np.linalg.solve(hessian, point.gradient), dtype=np.float64)
        length = step_length(coordinates, step)
        if length > limit:
            step = step * (limit / length)
            length = limit
        predicted = point.gradient @ step + 0.5 * step @ hessian @ step
        trial = objective(point.x + step)
        hessian = updated(hessian, step, trial.gradient - point.gradient)
        actual = trial.energy - point.energy
        if actual > noise:
            limit = 0.5 * length
        elif actual < 0.5 * predicted:
            limit = min(longest, max(limit, 1.5 * length))
        if actual <= noise:
            point = trial


def step_length(coordinates: SymmetryCoordinates, step: FloatArray) -> float:
    """Longest move of an atom, A: displacements of units, turns times their radius, strains times 5 A."""
    shift, turn, strain = coordinates.split(torch.as_tensor(step))
    radius = torch.as_tensor(coordinates.radii)
    moves = (shift.norm(dim=-1).max(), (turn.norm(dim=-1) * radius).max(), 5.0 * strain.norm())
    return max(float(move) for move in moves)


def updated(hessian: FloatArray, step: FloatArray, change: FloatArray) -> FloatArray:
    """BFGS update with Powell's damping, which keeps the Hessian positive definite.

    Parameters
    ----------
    hessian : ndarray, shape (D, D)
    step, change : ndarray, shape (D,)
        Difference of x and of the gradient.

    Notes
    -----
    Nocedal and Wright, Numerical Optimization (2006), procedure 18.2.
    """
    along = hessian @ step
    expected = float(step @ along)
    if expected <= 0:
        return hessian
    found = float(step @ change)
    weight = 1.0 if found >= 0.2 * expected else 0.8 * expected / (expected - found)
    damped = weight * change + (1 - weight) * along
    return np.asarray(hessian + np.outer(damped, damped) / (step @ damped) - np.outer(along, along) / expected)


def _lbfgs(objective: Objective, noise: float) -> None:
    from scipy.optimize import minimize

    # Scaled so that curvatures are near 1: the first step has unit length, about 0.1 A.
    scale = 1.0 / np.sqrt(STIFFNESS * natural_metric(objective.coordinates))

    def scaled(y: FloatArray) -> tuple[float, FloatArray]:
        point = objective(y * scale)
        return point.energy, point.gradient * scale

    y = np.zeros(objective.coordinates.size)
    options = {"maxcor": 50, "ftol": 0.0, "gtol": 0.0, "maxfun": 10**6, "maxiter": 10**6}
    lowest = np.inf
    # Started again where noise of a potential stops its line search.
    while (objective.best.energy if objective.path else 0.0) < lowest - noise:
        lowest = objective.best.energy if objective.path else np.inf
        minimize(scaled, y, jac=True, method="L-BFGS-B", options=options)
        y = objective.best.x / scale


STIFFNESS = 5.0
"""eV/A^2 an atom: the curvature that L-BFGS-B starts from."""
