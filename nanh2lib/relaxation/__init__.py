"""Relaxation: rigid units in the asymmetric unit first, then all atoms with the space group kept."""

from nanh2lib.relaxation.batch import relax, relax_many
from nanh2lib.relaxation.gradient import (
    EnergyGradient,
    EvaluationCounter,
    crystal_energy,
    energy_and_gradient,
    potential_energy,
)
from nanh2lib.relaxation.settings import (
    AtomsSettings,
    FragmentLimits,
    RelaxationSettings,
    ReleaseSettings,
    RigidSettings,
)
from nanh2lib.relaxation.stages import Engine, relax_atoms, relax_rigid, release

__all__ = [
    "EnergyGradient", "EvaluationCounter", "crystal_energy", "energy_and_gradient", "potential_energy",
    "AtomsSettings", "FragmentLimits", "RelaxationSettings", "ReleaseSettings", "RigidSettings",
    "Engine", "relax", "relax_many", "relax_atoms", "relax_rigid", "release",
]  # fmt: skip
