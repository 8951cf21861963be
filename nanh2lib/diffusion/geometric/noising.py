"""The forward process on crystals of rigid units: positions, orientations and (if free) the cell at one level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.diffusion.geometric import so3, strain, torus
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.tables import SiteData
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.settings import StageSettings

NO_TRANSLATION = float("inf")


class NoiseSettings(StageSettings):
    """Noise levels and which geometry each process respects; each part can be switched off.

    Attributes
    ----------
    levels : int
        Number of noise levels.
    position_sigma : tuple of float
        Smallest and largest spread of positions, A; the largest should make them uniform.
    turn_sigma : tuple of float
        Smallest and largest spread of orientations, radians.
    strain_sigma : tuple of float
        Smallest and largest noise of the cell, in units of the training set's spread.
    positions : {"torus", "euclidean"}
        Wrapped normal noise, or plain normal noise that ignores periodicity (ablation).
    orientations : {"quotient", "so3", "tangent"}
        Modulo the unit's symmetry; on SO(3) itself (ablation); or as if rotation vectors were a
        flat space (ablation).
    lattice : {"clamped", "strain"}
        The cell is given, or diffused along the strains of its crystal family.
    """

    levels: int = Field(default=200, ge=2)
    position_sigma: tuple[float, float] = (0.05, 5.0)
    turn_sigma: tuple[float, float] = (0.04, 1.8)
    strain_sigma: tuple[float, float] = (0.05, 10.0)
    positions: Literal["torus", "euclidean"] = "torus"
    orientations: Literal["quotient", "so3", "tangent"] = "quotient"
    lattice: Literal["clamped", "strain"] = "clamped"

    @model_validator(mode="after")
    def _check(self) -> NoiseSettings:
        for name in ("position_sigma", "turn_sigma", "strain_sigma"):
            low, high = getattr(self, name)
            if not 0 < low < high:
                raise ValueError(f"{name} = {[low, high]}: give two numbers, 0 < smallest < largest")
        if self.turn_sigma[1] > 3:
            raise ValueError(f"turn_sigma = {list(self.turn_sigma)}: above 3 radians nothing changes any more")
        return self

    def sigmas(self, name: Literal["position", "turn", "strain"]) -> Tensor:
        """Spread at each level (levels,), float64, smallest first, in geometric steps."""
        low, high = {"position": self.position_sigma, "turn": self.turn_sigma, "strain": self.strain_sigma}[name]
        steps = torch.linspace(math.log(low), math.log(high), self.levels, dtype=torch.float64)
        return steps.exp()


@dataclass(frozen=True)
class CellStatistics:
    """Reference lattice of each template and the spread of strains around it.

    Attributes
    ----------
    references : dict of Template to Tensor (3, 3)
    scale : float
        Root-mean-square strain of the training set, per free component; 1 for a clamped cell.
    """

    references: Mapping[Template, Tensor]
    scale: float

    @classmethod
    def of(cls, parts: Sequence[AsymmetricUnit]) -> CellStatistics:
        """Mean cells of a training set (symmetrised) and the spread around them."""
        groups: dict[Template, list[Tensor]] = {}
        for part in parts:
            groups.setdefault(part.template, []).append(part.lattice_parameters.to(torch.float64))
        references, squares, freedom = {}, 0.0, 0
        for template, parameters in groups.items():
            lattices = lattice_parameters_to_matrix(torch.cat(parameters))
            mean = template.space_group.symmetrize_lattice(torch.cat(parameters).mean(0))
            references[template] = lattice_parameters_to_matrix(mean)
            strains, _ = strain.lattice_to_strain(lattices, references[template])
            squares += float((strains**2).sum())
            freedom += strain.strain_freedom(template, references[template]) * len(lattices)
        scale = math.sqrt(squares / max(freedom, 1))
        return cls(references, scale if scale > 1e-6 else 1.0)

    def reference(self, flat: FlatUnits) -> Tensor:
        """Reference lattice (C, 3, 3) of each crystal."""
        return torch.stack([self.references[table.template] for table in flat.tables])

    def to_dict(self) -> dict[str, Any]:
        rows = [{"template": t.to_dict(), "lattice": lattice.tolist()} for t, lattice in self.references.items()]
        return {"references": rows, "scale": self.scale}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CellStatistics:
        references = {
            Template.from_dict(row["template"]): torch.tensor(row["lattice"], dtype=torch.float64)
            for row in data["references"]
        }
        return cls(references, float(data["scale"]))


@dataclass(frozen=True)
class Noised:
    """Crystals with noise, and what a network should say about them.

    Attributes
    ----------
    flat : FlatUnits
        Noised, float64; lattices of a free cell stand in the reference frame.
    level : Tensor of int, shape (C,)
    position, turn : Tensor, shape (N, 3)
        Sigma times the score of the noise.
    strain : Tensor, shape (C, 3, 3)
        The same for the cell; zeros when it is clamped.
    strain_state : Tensor, shape (C, 3, 3)
        y_t of the module `strain`.
    """

    flat: FlatUnits
    level: Tensor
    position: Tensor
    turn: Tensor
    strain: Tensor
    strain_state: Tensor


def add_noise(
    flat: FlatUnits,
    sites: SiteData,
    level: Tensor,
    settings: NoiseSettings,
    cells: CellStatistics,
    generator: torch.Generator,
) -> Noised:
    """Draw from the forward process.

    Parameters
    ----------
    flat : FlatUnits
        Clean, float64, on their sites.
    sites : SiteData
    level : Tensor of int, shape (C,)
        Noise level of each crystal.
    settings : NoiseSettings
    cells : CellStatistics
    generator : torch.Generator

    Returns
    -------
    Noised
    """
    flat, noise, state = _strained(flat, level, settings, cells, generator)
    position_sigma = settings.sigmas("position")[level][flat.crystal]
    turn_sigma = settings.sigmas("turn")[level][flat.crystal]
    displacement = position_sigma[:, None] * torch.randn(flat.n_units, 3, generator=generator, dtype=torch.float64)
    displacement = (cartesian(sites.origin_projection, flat) @ displacement[..., None])[..., 0]
    moved = flat.frac_origins + (displacement[:, None] @ torch.linalg.inv(flat.unit_lattice()))[:, 0]
    position = _position_target(flat, displacement, position_sigma, settings)
    vector = _turn_noise(flat, sites, turn_sigma, settings, generator)
    turned = so3.turned(flat.rotations, vector)
    turn = _turn_target(flat, sites, turned, vector, turn_sigma, settings)
    return Noised(flat.replace(frac_origins=moved, rotations=turned), level, position, turn, noise, state)


def cartesian(projection: Tensor, flat: FlatUnits) -> Tensor:
    """Cartesian form (N, 3, 3) of fractional projections (N, 3, 3) of units."""
    lattice = flat.unit_lattice()
    projection = projection.to(lattice.dtype)
    return lattice.transpose(-1, -2) @ projection @ torch.linalg.inv(lattice).transpose(-1, -2)


def _strained(
    flat: FlatUnits, level: Tensor, settings: NoiseSettings, cells: CellStatistics, generator: torch.Generator
) -> tuple[FlatUnits, Tensor, Tensor]:
    zeros = torch.zeros(flat.n_crystals, 3, 3, dtype=torch.float64)
    if settings.lattice == "clamped":
        return flat, zeros, zeros
    reference = cells.reference(flat)
    clean, turn = strain.lattice_to_strain(flat.lattice, reference)
    noise = project_strain(strain.symmetric_noise((flat.n_crystals,), generator), flat, cells)
    sigma = settings.sigmas("strain")[level][:, None, None]
    state = clean / cells.scale + sigma * noise
    lattice = strain.strain_to_lattice(cells.scale * state / torch.sqrt(1 + sigma**2), reference)
    rotations = turn[flat.crystal] @ flat.rotations
    return flat.replace(lattice=lattice, rotations=rotations), -noise, state


def project_strain(tensor: Tensor, flat: FlatUnits, cells: CellStatistics) -> Tensor:
    """Family projection of one tensor (C, 3, 3) for each crystal."""
    rows = [
        strain.family_projection(one, table.template, cells.references[table.template])
        for one, table in zip(tensor, flat.tables, strict=True)
    ]
    return torch.stack(rows)


def unit_translations(flat: FlatUnits, sigma: Tensor) -> Tensor:
    """Translations (N, K, 3), A, of each unit's torus, out to the largest sigma; padded with infinity."""
    largest = float(sigma.max())
    owners = torch.tensor([id(table) for table in flat.tables])
    known: dict[int, list[Tensor]] = {}
    for table in flat.tables:
        if id(table) not in known:
            extent = torus.translation_extent(flat.lattice[owners == id(table)], largest)
            known[id(table)] = [torus.site_translations(table.template, u, extent) for u in range(table.n_units)]
    tables = [translations for table in flat.tables for translations in known[id(table)]]
    most = max(len(vectors) for vectors in tables)
    frac = torch.full((len(tables), most, 3), NO_TRANSLATION, dtype=torch.float64)
    for row, vectors in enumerate(tables):
        frac[row, : len(vectors)] = vectors
    valid = torch.isfinite(frac)
    cart = torch.where(valid, frac, torch.zeros_like(frac)) @ flat.unit_lattice()
    return torch.where(valid, cart, frac)


def _position_target(flat: FlatUnits, displacement: Tensor, sigma: Tensor, settings: NoiseSettings) -> Tensor:
    if settings.positions == "euclidean":
        return -displacement / sigma[:, None]
    translations = unit_translations(flat, sigma)
    nearest = torus.nearest_image(displacement, translations)
    return sigma[:, None] * torus.wrapped_normal_score(nearest, translations, sigma)


def turn_axes(flat: FlatUnits, sites: SiteData) -> tuple[Tensor, Tensor]:
    """Cartesian turn projections (N, 3, 3), and unit axes (N, 3) where a site allows turns about one axis."""
    projection = cartesian(sites.turn_projection, flat)
    longest = torch.linalg.vector_norm(projection, dim=-2).argmax(-1)
    column = torch.gather(projection, -1, longest[:, None, None].expand(-1, 3, 1))[..., 0]
    axis = column / torch.linalg.vector_norm(column, dim=-1, keepdim=True).clamp_min(1e-12)
    return projection, torch.where((sites.turn_freedom == 1)[:, None], axis, torch.zeros_like(axis))


def _turn_noise(
    flat: FlatUnits, sites: SiteData, sigma: Tensor, settings: NoiseSettings, generator: torch.Generator
) -> Tensor:
    free = sites.turn_freedom == 3
    if settings.orientations == "tangent":
        vector = sigma[:, None] * torch.randn(flat.n_units, 3, generator=generator, dtype=torch.float64)
    else:
        vector = so3.sample_heat_kernel(sigma, generator)
    angle = sigma * torch.randn(flat.n_units, generator=generator, dtype=torch.float64)
    _, axis = turn_axes(flat, sites)
    return torch.where(free[:, None], vector, angle[:, None] * axis)


def _turn_target(
    flat: FlatUnits, sites: SiteData, turned: Tensor, vector: Tensor, sigma: Tensor, settings: NoiseSettings
) -> Tensor:
    projection, axis = turn_axes(flat, sites)
    if settings.orientations == "tangent":
        return -vector / sigma[:, None]
    symmetry = sites.symmetry
    if settings.orientations == "so3":
        symmetry = symmetry[:, :1]
    target = torch.zeros(flat.n_units, 3, dtype=torch.float64)
    free = (sites.turn_freedom == 3).nonzero().squeeze(-1)
    target[free] = so3.quotient_score(turned[free], flat.rotations[free], symmetry[free], sigma[free])
    bound = (sites.turn_freedom == 1).nonzero().squeeze(-1)
    if len(bound):
        period = 2 * math.pi / _turns_about(flat.rotations[bound], symmetry[bound], axis[bound])
        angle = (vector[bound] * axis[bound]).sum(-1)
        target[bound] = so3.circle_score(angle, period, sigma[bound])[:, None] * axis[bound]
    # A rod's spin about its own axis is no motion.
    along = flat.rotations.new_tensor([1.0, 0.0, 0.0])
    rod = (turned @ along)[:, :, None]
    across = target - (rod @ rod.transpose(-1, -2) @ target[..., None])[..., 0]
    target = torch.where(sites.linear[:, None], across, target)
    return sigma[:, None] * (projection @ target[..., None])[..., 0]


def _turns_about(rotation: Tensor, symmetry: Tensor, axis: Tensor) -> Tensor:
    """How many of a unit's proper operations (n, G, 3, 3) turn it about a laboratory axis (n, 3)."""
    valid = ~torch.isnan(symmetry[..., 0, 0])
    proper = torch.where(valid[..., None, None], symmetry, torch.eye(3, dtype=symmetry.dtype))
    laboratory = rotation[:, None] @ proper @ rotation[:, None].transpose(-1, -2)
    still = ((laboratory @ axis[:, None, :, None])[..., 0] - axis[:, None]).abs().amax(-1) < 1e-3
    return (still & valid).sum(-1).to(torch.float64)
