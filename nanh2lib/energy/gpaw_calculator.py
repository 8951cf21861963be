"""GPAW (PBE, plane waves) as an ASE calculator whose k-mesh follows the cell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.fft import set_backend

from nanh2lib.energy.torch_fft import TorchFFT
from nanh2lib.errors import ComputationError, MissingDependencyError
from nanh2lib.settings import StageSettings

SMALL_STEP = 0.2
"""Largest move (A) of an atom or a cell vector's component after which GPAW starts from the old density."""


class GpawSettings(StageSettings):
    """Settings of a GPAW calculation.

    The defaults are those of the published table of reference energies: differences between
    crystals of one compound are good to about 5 meV per formula unit, totals and stresses are not
    (plane-wave stress at 500 eV is off by 2 GPa; relax cells at 900 eV or so).

    Attributes
    ----------
    cutoff : float
        Plane-wave cutoff, eV.
    k_spacing : float
        Largest distance between k-points, 1/A, measured on reciprocal vectors with the factor 2 pi.
    mesh : tuple of int or None
        A fixed gamma-centred mesh instead; for relaxations of the cell, where it must not change.
    xc : str
        Exchange-correlation functional by GPAW's name.
    smearing : float
        Width of the Fermi-Dirac occupation, eV; energies are extrapolated to zero width.
    energy_tolerance : float
        Change of the energy in the last iterations, eV per electron.
    density_tolerance : float
        Integrated change of the density, electrons per valence electron.
    max_iterations : int
        SCF steps before the calculation counts as failed.
    empty_bands : int or None
        Bands above the occupied ones; None: as many as GPAW takes, a fifth of the occupied. Insulators
        need a few; no result depends on it.
    log : str or None
        File for GPAW's own text output.
    """

    cutoff: float = Field(default=400.0, gt=0)
    k_spacing: float = Field(default=0.4, gt=0)
    mesh: tuple[int, int, int] | None = None
    xc: str = "PBE"
    smearing: float = Field(default=0.1, gt=0)
    energy_tolerance: float = Field(default=1e-5, gt=0)
    density_tolerance: float = Field(default=1e-4, gt=0)
    max_iterations: int = Field(default=200, gt=0)
    empty_bands: int | None = Field(default=None, ge=1)
    log: str | None = None


def k_mesh(lattice: ArrayLike, k_spacing: float) -> tuple[int, int, int]:
    """Gamma-centred mesh with at most ``k_spacing`` between neighbouring k-points.

    It comes from the lengths of the *reciprocal* vectors. In a skewed cell (beta = 145.9 degrees of
    Table S1) they are longer than 2 pi over the cell lengths, which would leave the mesh too coarse.

    Parameters
    ----------
    lattice : array_like, shape (3, 3)
        Cell vectors as rows, A.
    k_spacing : float
        1/A, with the factor 2 pi.

    Returns
    -------
    tuple of int
        Points along each reciprocal vector, at least 1.
    """
    reciprocal = 2 * np.pi * np.linalg.inv(np.asarray(lattice, dtype=float)).T
    lengths = np.linalg.norm(reciprocal, axis=1)
    first, second, third = (max(1, math.ceil(length / k_spacing - 1e-9)) for length in lengths)
    return first, second, third


class GpawCalculator(Calculator):
    """Plane-wave DFT energy, forces and stress.

    Parameters
    ----------
    settings : GpawSettings
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, settings: GpawSettings) -> None:
        super().__init__()
        self.results: dict[str, Any] = {}
        self.settings = settings
        self._inner: Any = None
        self._inner_mesh: tuple[int, int, int] | None = None
        self._inner_atoms: Atoms | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Compute the properties asked for; forces and stress only then.

        Raises
        ------
        ComputationError
            The self-consistency cycle did not converge.
        """
        super().calculate(atoms, properties, system_changes)
        mesh = self.settings.mesh or k_mesh(self.atoms.cell.array, self.settings.k_spacing)
        if mesh != self._inner_mesh or not _is_small_step(self._inner_atoms, self.atoms):
            self._inner, self._inner_mesh = make_gpaw(self.settings, mesh), mesh
        from gpaw import KohnShamConvergenceError
        from gpaw.new.symmetry import SymmetryBrokenError

        wanted = ["energy", "free_energy", *sorted(set(properties or ()) & {"forces", "stress"})]
        try:
            try:
                results = self._run(wanted)
            except SymmetryBrokenError:  # the step left the symmetry that the old density was made for
                self._inner = make_gpaw(self.settings, mesh)
                results = self._run(wanted)
        except KohnShamConvergenceError as error:
            self._inner = self._inner_mesh = self._inner_atoms = None
            raise ComputationError(
                f"GPAW: no self-consistency in {self.settings.max_iterations} iterations for "
                f"{self.atoms.get_chemical_formula()}; raise max_iterations or smearing, or check the structure"
            ) from error
        self._inner_atoms = self.atoms.copy()
        # Same atoms as before: what was computed for them stays valid.
        self.results = {**({} if system_changes else self.results), **results}

    def _run(self, wanted: list[str]) -> dict[str, Any]:
        with set_backend(TorchFFT):  # counts where GPAW was built without FFTW
            return {name: self._inner.get_property(name, self.atoms) for name in wanted}


def _is_small_step(before: Atoms | None, after: Atoms) -> bool:
    """Whether ``after`` is a step of a relaxation from ``before``, so that its density is a good start.

    Another crystal of the same atoms is not: it may have other symmetry, and its result must not
    depend on what was computed before it.
    """
    if before is None or len(before) != len(after) or (before.numbers != after.numbers).any():
        return False
    moved = np.abs(before.positions - after.positions).max()
    return bool(max(moved, np.abs(before.cell.array - after.cell.array).max()) < SMALL_STEP)


def make_gpaw(settings: GpawSettings, mesh: tuple[int, int, int]) -> Any:
    """GPAW's own calculator object.

    Its PAW data sets come from the package ``gpaw-data``, which GPAW finds by itself: no
    environment variable, no download.

    Raises
    ------
    MissingDependencyError
        GPAW cannot be imported.
    """
    try:
        from gpaw import GPAW, PW
    except ImportError as error:
        raise MissingDependencyError(
            f"potential 'gpaw': {error}; install the extra dft on top of libxc and a BLAS: "
            "CC=c++ pip install 'nanh2lib[dft]'"
        ) from error
    return GPAW(
        mode=PW(settings.cutoff),
        xc=settings.xc,
        kpts={"size": mesh, "gamma": True},
        occupations={"name": "fermi-dirac", "width": settings.smearing},
        convergence={"energy": settings.energy_tolerance, "density": settings.density_tolerance},
        maxiter=settings.max_iterations,
        nbands=None if settings.empty_bands is None else -settings.empty_bands,
        # Screw axes and glide planes too: GPAW leaves them out by default, and alpha then needs twice the k-points.
        symmetry={"symmorphic": False},
        txt=settings.log,
    )
