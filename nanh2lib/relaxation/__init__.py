"""Relaxation: rigid units in the asymmetric unit first, then all atoms with the space group kept."""

from nanh2lib.relaxation.gradient import (
    EnergyGradient,
    EvaluationCounter,
    crystal_energy,
    energy_and_gradient,
    potential_energy,
)
from nanh2lib.relaxation.settings import RigidSettings
from nanh2lib.relaxation.stages import relax_rigid

__all__ = [
    "EnergyGradient", "EvaluationCounter", "crystal_energy", "energy_and_gradient", "potential_energy",
    "RigidSettings", "relax_rigid",
]  # fmt: skip
