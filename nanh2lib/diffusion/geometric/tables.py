"""What a template fixes, worked out once: what its sites allow, and which images make its crystal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.rigid_unit import RigidUnit

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SiteData:
    """What sites allow, for N units (float64).

    Attributes
    ----------
    origin_projection : Tensor, shape (N, 3, 3)
        Fractional projection onto the site's subspace.
    turn_projection : Tensor, shape (N, 3, 3)
        Fractional form of the projection onto the turns that the site allows: Cartesian
        P = L^T turn_projection L^-T acts on rotation vectors; zero for single atoms.
    turn_freedom : Tensor of int, shape (N,)
        0, 1 or 3.
    symmetry : Tensor, shape (N, G, 3, 3)
        Proper operations of the unit's point group; NaN is padding.
    multiplicity : Tensor, shape (N,)
    site_order : Tensor, shape (N,)
        Order of the site-symmetry group.
    freedom : Tensor, shape (N,)
        Free coordinates of the position.
    linear : Tensor of bool, shape (N,)
    """

    origin_projection: Tensor
    turn_projection: Tensor
    turn_freedom: Tensor
    symmetry: Tensor
    multiplicity: Tensor
    site_order: Tensor
    freedom: Tensor
    linear: Tensor

    @classmethod
    def cat(cls, parts: Sequence[SiteData]) -> SiteData:
        """Join tables, padding the symmetry operations."""
        most = max(part.symmetry.shape[1] for part in parts)
        padded = {id(part): _pad(part.symmetry, most) for part in parts}
        fields = {}
        for entry in dataclasses.fields(cls):
            if entry.name == "symmetry":
                fields[entry.name] = torch.cat([padded[id(part)] for part in parts])
            else:
                fields[entry.name] = torch.cat([getattr(part, entry.name) for part in parts])
        return cls(**fields)


def _pad(symmetry: Tensor, count: int) -> Tensor:
    missing = count - symmetry.shape[1]
    if missing == 0:
        return symmetry
    filler = torch.full((len(symmetry), missing, 3, 3), float("nan"), dtype=symmetry.dtype)
    return torch.cat([symmetry, filler], 1)


def site_table(template: Template) -> SiteData:
    """`SiteData` of one asymmetric unit on a template."""
    origin, turn, freedom, symmetry = [], [], [], []
    for site, wyckoff in zip(template.sites, template.wyckoff_sites, strict=True):
        origin.append(torch.as_tensor(wyckoff.projection.copy()))
        turns = _turn_projection(template, site.unit, site.wyckoff_letter, site.orientation_mode)
        turn.append(torch.as_tensor(turns))
        freedom.append(int(round(float(np.trace(turns)))))
        symmetry.append(proper_symmetry(site.unit))
    most = max(len(operations) for operations in symmetry)
    sites = template.wyckoff_sites
    return SiteData(
        origin_projection=torch.stack(origin),
        turn_projection=torch.stack(turn),
        turn_freedom=torch.tensor(freedom),
        symmetry=torch.cat([_pad(operations[None], most) for operations in symmetry]),
        multiplicity=torch.tensor(template.multiplicities, dtype=torch.float64),
        site_order=torch.tensor([len(s.stabilizer_rotations) for s in sites], dtype=torch.float64),
        freedom=torch.tensor([s.degrees_of_freedom for s in sites], dtype=torch.float64),
        linear=torch.tensor([site.unit.is_linear for site in template.sites]),
    )


@lru_cache(maxsize=256)
def proper_symmetry(unit: RigidUnit) -> Tensor:
    """Proper operations (G, 3, 3), float64, of a unit's point group; identity alone for atoms and rods."""
    operations = torch.as_tensor(unit.point_group[1].copy())
    return operations[torch.linalg.det(operations) > 0]


def _turn_projection(template: Template, unit: RigidUnit, letter: str, mode: int) -> FloatArray:
    """Mean of det(W) W over the stabilizer: an axial vector that the site leaves alone."""
    if unit.is_monatomic:
        return np.zeros((3, 3))
    wyckoff = template.space_group.site(letter)
    rotations = wyckoff.stabilizer_rotations.astype(np.float64)
    if unit.is_linear and len(rotations) > 1:
        return _rod_turns(template, unit, letter, mode, rotations)
    signs = np.linalg.det(rotations)
    return np.asarray((signs[:, None, None] * rotations).mean(0))


def _rod_turns(template: Template, unit: RigidUnit, letter: str, mode: int, rotations: FloatArray) -> FloatArray:
    """A rod may turn where its axis may point: nowhere else (0), in a plane (about its normal), anywhere."""
    modes = orientation_modes(unit, template.hall_number, letter)
    signs = modes[mode][:, 0, 0]
    axes = (signs[:, None, None] * rotations).mean(0)
    room = int(round(float(np.trace(axes))))
    if room == 3:
        return np.eye(3)
    if room == 1:
        return np.zeros((3, 3))
    # The normal of the plane is the vector on which the same sum, made axial, has eigenvalue 1.
    return np.asarray(np.eye(3) - axes)


@dataclass(frozen=True)
class ImageTable:
    """The images (I of them) of all units of one crystal on a template, and all P pairs of a unit and an image.

    Attributes
    ----------
    source : Tensor of int, shape (I,)
        Unit that an image is made from.
    rotation, translation : Tensor, shapes (I, 3, 3) and (I, 3)
        Operation that makes it, fractional.
    pair_target, pair_image : Tensor of int, shape (P,)
        Unit and image of each pair.
    itself : Tensor of bool, shape (P,)
        The image is the unit.
    """

    source: Tensor
    rotation: Tensor
    translation: Tensor
    pair_target: Tensor
    pair_image: Tensor
    itself: Tensor


def image_table(template: Template) -> ImageTable:
    """Every image of every unit by one operation, and each unit paired with all of them."""
    source, rotation, translation, identity = [], [], [], []
    for number, wyckoff in enumerate(template.wyckoff_sites):
        count = wyckoff.multiplicity
        source += [number] * count
        rotation.append(torch.as_tensor(wyckoff.coset_rotations, dtype=torch.float64))
        translation.append(torch.as_tensor(wyckoff.coset_translations.copy()))
        identity += [True] + [False] * (count - 1)  # the identity comes first
    units, images = template.n_units, len(source)
    sources = torch.tensor(source)
    target = torch.arange(units).repeat_interleave(images)
    image = torch.arange(images).repeat(units)
    itself = torch.tensor(identity)[image] & (target == sources[image])
    return ImageTable(sources, torch.cat(rotation), torch.cat(translation), target, image, itself)


@dataclass(frozen=True, eq=False)
class TemplateTables:
    """Tables of one template (one object for each template: compared by identity).

    Attributes
    ----------
    template : Template
    sites : SiteData
    images : ImageTable
    handedness : Tensor, shape (U,)
    free_directions : Tensor, shape (F, 3)
        Fractional directions along which the origin may slide (polar axes).
    """

    template: Template
    sites: SiteData
    images: ImageTable
    handedness: Tensor
    free_directions: Tensor

    @property
    def n_units(self) -> int:
        return len(self.handedness)


@lru_cache(maxsize=2048)
def template_tables(template: Template) -> TemplateTables:
    """Tables of a template (cached)."""
    handedness = torch.tensor([float(site.handedness) for site in template.sites], dtype=torch.float64)
    polar = torch.as_tensor(template.space_group.free_origin_shifts().directions.copy()).reshape(-1, 3)
    return TemplateTables(template, site_table(template), image_table(template), handedness, polar)
