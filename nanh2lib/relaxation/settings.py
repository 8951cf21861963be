"""Settings of the relaxation stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nanh2lib.settings import StageSettings


class RigidSettings(StageSettings):
    """Rigid units in the asymmetric unit.

    Attributes
    ----------
    potential : str
        Name of the potential.
    cell : ``"fixed"`` or ``"free"``
        Whether the lattice relaxes (its symmetry is kept).
    fmax : float
        Largest force on a unit, and torque over the unit's radius, at convergence, eV/A.
    max_stress : float
        Largest stress component at convergence (free cell), GPa.
    max_evaluations : int
        Limit on energy calls.
    max_volume_change : float
        A volume larger or smaller than at the start by this factor counts as exploded.
    max_energy_drop : float
        A fall by more than this, eV per atom, counts as exploded (a hole of the potential).
    """

    potential: str = "chgnet"
    cell: Literal["fixed", "free"] = "fixed"
    fmax: float = Field(0.05, gt=0)
    max_stress: float = Field(0.1, gt=0)
    max_evaluations: int = Field(100, ge=1)
    max_volume_change: float = Field(2.0, gt=1)
    max_energy_drop: float = Field(5.0, gt=0)
