"""Crystals as single atoms on Wyckoff sites: what relaxing every atom under symmetry needs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.connectivity import Fragment
from nanh2lib.crystal.expansion import expand_tensors, project
from nanh2lib.crystal.orbits import fragment_orbits
from nanh2lib.crystal.rigid_unit import RigidUnit
from nanh2lib.crystal.setting import checked_structure, find_setting
from nanh2lib.crystal.space_group import SpaceGroup, WyckoffSite
from nanh2lib.errors import ComputationError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix

FloatArray = NDArray[np.float64]
ON_SITE = 1e-3
"""An atom within this (A) of a special position lies on it."""
_CELLS = np.array(list(itertools.product((0, -1, 1), repeat=3)), dtype=np.float64)


def atom_unit(symbol: str) -> RigidUnit:
    """An element as a unit of one atom, named like the element."""
    return RigidUnit(symbol, (symbol,))


@dataclass(frozen=True)
class AtomsView:
    """A crystal as single atoms.

    Attributes
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of one; every unit is one atom.
    order : ndarray of int, shape (N,)
        For each atom of the crystal it was made from, its number in the expansion of
        ``asymmetric_unit``.
    """

    asymmetric_unit: AsymmetricUnit
    order: NDArray[np.int64]


def atoms_asymmetric_unit(asymmetric_unit: AsymmetricUnit) -> AtomsView:
    """The crystal of rigid units with every symmetry-independent atom as a unit of its own.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of one; units on special positions give fewer atoms (NH2 on a two-fold axis: one N, one H).

    Returns
    -------
    AtomsView
        Same Hall number, same lattice; ``order`` refers to `expand_tensors` of the input.
    """
    unit = project(asymmetric_unit.detach().to(torch.float64))
    crystals = expand_tensors(unit, project_sites=False)
    lattice = crystals.lattice[0].numpy()
    frac = crystals.frac_coords[0].numpy()
    group = unit.template.space_group
    first_images = np.cumsum([0, *unit.multiplicities[:-1]])
    image_index = crystals.unit_index.numpy()
    independent = np.flatnonzero(np.isin(image_index, first_images))
    points: list[tuple[str, WyckoffSite, FloatArray]] = []
    taken = np.zeros(len(frac), dtype=bool)
    for atom in independent:
        if taken[atom]:
            continue
        site, point = wyckoff_site_of(frac[atom], group, lattice)
        symbol = crystals.species[atom]
        points.append((symbol, site, point))
        images = group.rotations @ point + group.translations
        taken |= _coincide(frac, images, lattice).any(1) & (np.array(crystals.species) == symbol)
    return _view(points, group, unit.lattice_parameters, frac, crystals.species)


def atoms_of_structure(structure: Structure, symprec: float = 1e-2) -> AtomsView:
    """A crystal as single atoms in the space group that it has at ``symprec``.

    Parameters
    ----------
    structure : Structure
        Conventional cell in any of the 530 tabulated settings.
    symprec : float
        A; atoms are averaged over their symmetry images.

    Returns
    -------
    AtomsView
        ``order`` refers to the sites of ``structure``.

    Raises
    ------
    InputError
        Not a crystal, or a cell that is not conventional.
    ComputationError
        No space group, or one that does not relate the atoms.
    """
    crystal = checked_structure(structure)
    setting = find_setting(crystal, symprec)
    group = setting.space_group
    parameters = group.symmetrize_lattice(torch.tensor([crystal.lattice.parameters], dtype=torch.float64))
    lattice = lattice_parameters_to_matrix(parameters)[0].numpy()
    frac = np.asarray(crystal.frac_coords) + setting.origin_shift
    species = tuple(str(site.specie.symbol) for site in crystal)
    fragments = [Fragment((i,), (species[i],), frac[i : i + 1]) for i in range(len(species))]
    orbits = fragment_orbits(fragments, group, lattice, max(0.05, 5 * symprec))
    points = [
        (orbit.fragment.species[0], *wyckoff_site_of(orbit.fragment.frac_coords[0], group, lattice)) for orbit in orbits
    ]
    return _view(points, group, parameters, frac, species, tolerance=max(0.05, 5 * symprec))


def wyckoff_site_of(
    point: FloatArray, group: SpaceGroup, lattice: FloatArray, tolerance: float = ON_SITE
) -> tuple[WyckoffSite, FloatArray]:
    """Wyckoff site of a point and the image of it that lies on the site's representative.

    Parameters
    ----------
    point : ndarray, shape (3,)
        Fractional.
    group : SpaceGroup
    lattice : ndarray, shape (3, 3)
        Rows, A.
    tolerance : float
        A.

    Returns
    -------
    site : WyckoffSite
    image : ndarray, shape (3,)
        The point itself for a general position.
    """
    images = group.rotations @ point + group.translations
    fixing = int(_coincide(images, point[None], lattice, tolerance).sum())
    if fixing == 1:
        return group.wyckoff_sites[-1], point
    wrapped = images - np.floor(images)
    candidates = (wrapped[:, None] + _CELLS).reshape(-1, 3)
    for site in group.wyckoff_sites:
        if site.multiplicity * fixing != group.order:
            continue
        on_site = candidates @ site.projection.T + site.offset
        distance = np.linalg.norm((on_site - candidates) @ lattice, axis=1)
        best = int(distance.argmin())
        if distance[best] < tolerance:
            return site, np.asarray(on_site[best])
    raise ComputationError(
        f"the point {np.round(point, 4).tolist()} lies on no Wyckoff site of {group.symbol} (Hall {group.hall_number})"
    )


def _coincide(
    first: FloatArray, second: FloatArray, lattice: FloatArray, tolerance: float = ON_SITE
) -> NDArray[np.bool_]:
    """Which of points (n, 3) and (m, 3) are the same modulo the lattice, (n, m)."""
    gaps = first[:, None] - second[None]
    return np.asarray(np.linalg.norm((gaps - np.round(gaps)) @ lattice, axis=-1) < tolerance)


def _view(
    points: list[tuple[str, WyckoffSite, FloatArray]],
    group: SpaceGroup,
    parameters: torch.Tensor,
    frac: FloatArray,
    species: tuple[str, ...],
    tolerance: float = 10 * ON_SITE,
) -> AtomsView:
    template = Template(group.hall_number, tuple(Site(atom_unit(symbol), site.letter) for symbol, site, _ in points))
    if template.n_atoms != len(frac):
        raise ComputationError(
            f"{len(frac)} atoms, but their orbits under {group.symbol} hold {template.n_atoms}: atoms lie on each other"
        )
    unit = AsymmetricUnit(
        template,
        parameters,
        torch.as_tensor(np.array([[point for _, _, point in points]])),
        torch.eye(3, dtype=torch.float64).repeat(1, len(points), 1, 1),
    )
    crystals = expand_tensors(unit)
    lattice = crystals.lattice[0].numpy()
    gaps = frac[:, None] - crystals.frac_coords[0].numpy()[None]
    distance = np.linalg.norm((gaps - np.round(gaps)) @ lattice, axis=-1)
    distance[np.array(species)[:, None] != np.array(crystals.species)[None]] = np.inf
    order = distance.argmin(1)
    if distance.min(1).max() > tolerance or len(set(order.tolist())) != len(order):
        raise ComputationError(
            f"atoms of {group.symbol} do not come back from their orbits; check for overlapping atoms"
        )
    return AtomsView(project(unit), order)
