"""Settings of the relaxation stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from nanh2lib.settings import StageSettings


class DescentSettings(StageSettings):
    """When to stop going downhill, and how far to step.

    Attributes
    ----------
    cell : ``"fixed"`` or ``"free"``
        Whether the lattice relaxes (its symmetry is kept).
    fmax : float
        Largest force at convergence, eV/A: on an atom, or on a rigid unit and its torque over its radius.
    max_stress : float
        Largest stress component at convergence (free cell), GPa.
    max_evaluations : int
        Limit on energy calls.
    max_step : float
        Longest move of an atom in one step, A.
    max_volume_change : float
        A volume larger or smaller than at the start by this factor counts as exploded.
    max_energy_drop : float
        A fall by more than this, eV per atom, counts as exploded (a hole of the potential).
    method : ``"bfgs"`` or ``"lbfgs"``
        Our step-limited BFGS from a model Hessian, or SciPy's L-BFGS-B with a line search.
    """

    cell: Literal["fixed", "free"] = "free"
    fmax: float = Field(0.02, gt=0)
    max_stress: float = Field(0.1, gt=0)
    max_evaluations: int = Field(200, ge=1)
    max_step: float = Field(0.4, gt=0)
    max_volume_change: float = Field(2.0, gt=1)
    max_energy_drop: float = Field(5.0, gt=0)
    method: Literal["bfgs", "lbfgs"] = "bfgs"


class RigidSettings(DescentSettings):
    """Rigid units in the asymmetric unit; the cell is fixed unless said otherwise."""

    cell: Literal["fixed", "free"] = "fixed"
    fmax: float = Field(0.05, gt=0)
    max_evaluations: int = Field(100, ge=1)


class AtomsSettings(DescentSettings):
    """All atoms, space group and sites kept."""


class ReleaseSettings(DescentSettings):
    """All atoms without any symmetry after a small random kick, to see whether the crystal is a minimum.

    Attributes
    ----------
    kick : float
        Root mean square displacement of each atom, A.
    strain_kick : float
        Root mean square of each strain component.
    seed : int
        Of the kick.
    symprec : float
        A, for the space group before and after; looser than elsewhere because atoms come back
        to a flat minimum only within the convergence limits.
    """

    fmax: float = Field(0.01, gt=0)
    max_evaluations: int = Field(300, ge=1)
    kick: float = Field(0.03, ge=0)
    strain_kick: float = Field(0.003, ge=0)
    seed: int = Field(0, ge=0)
    symprec: float = Field(0.1, gt=0)


class FragmentLimits(StageSettings):
    """How far molecules may bend in an all-atom relaxation before they count as broken.

    Differences from the rigid unit's geometry; the defaults allow NH2 N-H bonds of 0.95 to
    1.12 A and H-N-H angles of 95 to 112 degrees.

    Attributes
    ----------
    bond_shorter, bond_longer : float
        A.
    angle_smaller, angle_larger : float
        Degrees.
    """

    bond_shorter: float = Field(0.08, gt=0)
    bond_longer: float = Field(0.09, gt=0)
    angle_smaller: float = Field(9.0, gt=0)
    angle_larger: float = Field(8.0, gt=0)


class RelaxationSettings(StageSettings):
    """A full relaxation: each stage starts where the one before ended; None leaves a stage out.

    Attributes
    ----------
    potential : str
        Name of the potential.
    options : mapping
        Options of the potential.
    rigid : RigidSettings or None
        A first descent of rigid units.
    atoms : AtomsSettings or None
        Then all atoms at fixed space group.
    released : ReleaseSettings or None
        Then, on request, without symmetry.
    fragments : FragmentLimits
    symprec : float
        A, for the space groups before and after.
    """

    potential: str = "sevennet-0"
    options: Mapping[str, Any] = Field(default_factory=dict)
    rigid: RigidSettings | None = RigidSettings(cell="free", fmax=0.1, max_stress=0.5)
    atoms: AtomsSettings | None = AtomsSettings()
    released: ReleaseSettings | None = None
    fragments: FragmentLimits = FragmentLimits()
    symprec: float = Field(1e-2, gt=0)
