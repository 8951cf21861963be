"""Crystals on different templates side by side in dense tensors, padded to the largest.

Random search draws from many templates, a few crystals of each. Packed, they move through one
batch: every crystal carries its own index tensors. Padded atoms have zero limits (they touch
nothing), padded units zero projections (they do not move).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.orientation import orientation_modes, polar_factor
from nanh2lib.crystal.pair_limits import PairLimits
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import nearest_rotation, rotation_onto

SINGULAR = 1e-3
"""Determinant of an averaged orientation below which its projection is thrown away."""

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class PackedTemplates:
    """Index tensors of B templates; A atoms and U units in the asymmetric unit, N atoms in the cell, at most.

    Attributes
    ----------
    body : Tensor, shape (B, A, 3)
        A.
    unit_of_atom : Tensor of int, shape (B, A)
    atoms_of_unit : Tensor, shape (B, U, A)
        1 where an atom belongs to a unit.
    rotations, translations : Tensor, shapes (B, N, 3, 3) and (B, N, 3)
        Operation that makes each atom of the cell, fractional.
    source : Tensor of int, shape (B, N)
        Atom of the asymmetric unit that each atom of the cell is an image of.
    same_image : Tensor of bool, shape (B, A, N)
        Both atoms belong to one and the same image of a unit.
    element_rows, element_columns : Tensor of int, shapes (B, A) and (B, N)
        Atomic numbers; 0 for padding.
    origin_projection, origin_offset : Tensor, shapes (B, U, 3, 3) and (B, U, 3)
    site_order : Tensor, shape (B, U)
        Order of the site-symmetry group.
    stabilizer, body_operations : Tensor, shape (B, U, S, 3, 3)
        Site-symmetry operations (fractional) and the body operations of the orientation mode.
    stabilizer_weight : Tensor, shape (B, U, S)
        1 / order, zero for padding.
    oriented, linear : Tensor of bool, shape (B, U)
        The unit has an orientation; it is linear.
    multiplicity : Tensor, shape (B, U)
        Zero for padding.
    """

    body: Tensor
    unit_of_atom: Tensor
    atoms_of_unit: Tensor
    rotations: Tensor
    translations: Tensor
    source: Tensor
    same_image: Tensor
    element_rows: Tensor
    element_columns: Tensor
    origin_projection: Tensor
    origin_offset: Tensor
    site_order: Tensor
    stabilizer: Tensor
    body_operations: Tensor
    stabilizer_weight: Tensor
    oriented: Tensor
    linear: Tensor
    multiplicity: Tensor

    def to(self, dtype: torch.dtype) -> PackedTemplates:
        """Copy with floating tensors of that type."""
        return self._map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def select(self, index: Tensor) -> PackedTemplates:
        """Some of the crystals."""
        return self._map(lambda tensor: tensor[index])

    def _map(self, function: Callable[[Tensor], Tensor]) -> PackedTemplates:
        return PackedTemplates(**{f.name: function(getattr(self, f.name)) for f in dataclasses.fields(self)})


def pack_templates(templates: Sequence[Template]) -> PackedTemplates:
    """Stack the index tensors of templates (float64), padded to the largest of them."""
    if len(set(templates)) == 1:
        single = _template_arrays(templates[0])
        count = len(templates)
        tensors = {k: torch.as_tensor(v).expand(count, *v.shape) for k, v in single.items()}
        return PackedTemplates(**tensors)
    parts = [_template_arrays(template) for template in templates]
    return PackedTemplates(**{key: _stack([part[key] for part in parts]) for key in parts[0]})


def _stack(arrays: list[NDArray[np.generic]]) -> Tensor:
    shape = tuple(max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True))
    result = np.zeros((len(arrays), *shape), dtype=arrays[0].dtype)
    for row, array in zip(result, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array
    return torch.as_tensor(result)


@lru_cache(maxsize=4096)
def _template_arrays(template: Template) -> Arrays:
    from pymatgen.core import Element

    layout = template.layout
    sites = template.wyckoff_sites
    order = max(len(site.stabilizer_rotations) for site in sites)
    n_units = template.n_units
    stabilizer, operations = np.zeros((n_units, order, 3, 3)), np.zeros((n_units, order, 3, 3))
    weight = np.zeros((n_units, order))
    for u, (site, wyckoff) in enumerate(zip(template.sites, sites, strict=True)):
        modes = orientation_modes(site.unit, template.hall_number, site.wyckoff_letter)
        size = len(wyckoff.stabilizer_rotations)
        stabilizer[u, :size] = wyckoff.stabilizer_rotations
        operations[u, :size] = modes[site.orientation_mode]
        weight[u, :size] = 1.0 / size
    atom_unit = layout.atom_unit.numpy()
    image_index = layout.image_index.numpy()
    first_image = np.cumsum([0, *template.multiplicities])[:-1]
    species = [s for site in template.sites for s in site.unit.species]
    return {
        "body": layout.body.numpy(),
        "unit_of_atom": atom_unit,
        "atoms_of_unit": (np.arange(n_units)[:, None] == atom_unit[None]).astype(np.float64),
        "rotations": layout.rotations.numpy(),
        "translations": layout.translations.numpy(),
        "source": layout.atom_index.numpy(),
        "same_image": first_image[atom_unit][:, None] == image_index[None],
        "element_rows": np.array([Element(s).Z for s in species]),
        "element_columns": np.array([Element(s).Z for s in layout.species]),
        "origin_projection": layout.origin_projection.numpy(),
        "origin_offset": layout.origin_offset.numpy(),
        "site_order": np.array([len(site.stabilizer_rotations) for site in sites], dtype=np.float64),
        "stabilizer": stabilizer,
        "body_operations": operations,
        "stabilizer_weight": weight,
        "oriented": np.array([not site.unit.is_monatomic for site in template.sites]),
        "linear": np.array([site.unit.is_linear for site in template.sites]),
        "multiplicity": np.array(template.multiplicities, dtype=np.float64),
    }


def pair_limits(packed: PackedTemplates, limits: PairLimits, dtype: torch.dtype) -> Tensor:
    """Limits (B, A, N) in A between the atoms of the asymmetric unit and all atoms; zero for padding."""
    from pymatgen.core import Element

    numbers = torch.unique(torch.cat([packed.element_rows.flatten(), packed.element_columns.flatten()]))
    symbols = [Element.from_Z(int(z)).symbol for z in numbers if z > 0]
    table = torch.zeros(int(numbers.max()) + 1, int(numbers.max()) + 1, dtype=dtype)
    present = numbers[numbers > 0]
    table[present[:, None], present[None]] = limits.matrix(symbols, symbols, dtype)
    return table[packed.element_rows[:, :, None], packed.element_columns[:, None, :]]


@dataclass(frozen=True)
class PackedState:
    """Where the units of a packed batch are.

    Attributes
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A.
    origins : Tensor, shape (B, U, 3)
        Fractional.
    orientations : Tensor, shape (B, U, 3, 3)
    """

    lattice: Tensor
    origins: Tensor
    orientations: Tensor

    def to(self, dtype: torch.dtype) -> PackedState:
        """Copy in float32 or float64."""
        return PackedState(self.lattice.to(dtype), self.origins.to(dtype), self.orientations.to(dtype))

    def select(self, index: Tensor) -> PackedState:
        """Some of the crystals."""
        return PackedState(self.lattice[index], self.origins[index], self.orientations[index])


def pack_state(units: Sequence[AsymmetricUnit]) -> PackedState:
    """State of a list of asymmetric units (each a batch of one), padded."""
    lattice = lattice_parameters_to_matrix(torch.cat([unit.lattice_parameters for unit in units]))
    width = max(unit.template.n_units for unit in units)
    origins = torch.zeros(len(units), width, 3, dtype=lattice.dtype)
    orientations = torch.eye(3, dtype=lattice.dtype).repeat(len(units), width, 1, 1)
    for i, unit in enumerate(units):
        origins[i, : unit.template.n_units] = unit.frac_origins[0]
        orientations[i, : unit.template.n_units] = unit.rotations[0]
    return PackedState(lattice, origins, orientations)


def unpack_state(templates: Sequence[Template], lattice_parameters: Tensor, state: PackedState) -> list[AsymmetricUnit]:
    """Asymmetric units, each a batch of one, of a packed state."""
    units = []
    for i, template in enumerate(templates):
        n = template.n_units
        units.append(
            AsymmetricUnit(
                template,
                lattice_parameters[i : i + 1].clone(),
                state.origins[i : i + 1, :n].clone(),
                state.orientations[i : i + 1, :n].clone(),
            )
        )
    return units


def atom_positions(packed: PackedTemplates, state: PackedState) -> tuple[Tensor, Tensor, Tensor]:
    """Atoms of a packed state.

    Returns
    -------
    offsets : Tensor, shape (B, A, 3)
        Cartesian positions in the unit, about its reference point, A.
    independent : Tensor, shape (B, A, 3)
        Fractional positions of the atoms of the asymmetric unit.
    everything : Tensor, shape (B, N, 3)
        Fractional positions of all atoms of the cell, not wrapped.
    """
    rows = torch.arange(len(packed.body))[:, None]
    orientations = state.orientations[rows, packed.unit_of_atom]
    offsets = (orientations @ packed.body[..., None]).squeeze(-1)
    independent = state.origins[rows, packed.unit_of_atom] + offsets @ torch.linalg.inv(state.lattice)
    images = (packed.rotations @ independent[rows, packed.source][..., None]).squeeze(-1)
    return offsets, independent, images + packed.translations


def cart_stabilizer(packed: PackedTemplates, lattice: Tensor) -> Tensor:
    """Cartesian site-symmetry operations (B, U, S, 3, 3): L^T W L^-T."""
    transpose = lattice.transpose(-1, -2)[:, None, None]
    return transpose @ packed.stabilizer @ torch.linalg.inv(transpose)


def project_origins(packed: PackedTemplates, origins: Tensor) -> Tensor:
    """Nearest points (B, U, 3) of the sites, in fractions."""
    return (packed.origin_projection @ origins[..., None]).squeeze(-1) + packed.origin_offset


def project_orientations(packed: PackedTemplates, lattice: Tensor, orientations: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest allowed orientations, and which of them are well defined.

    Parameters
    ----------
    packed : PackedTemplates
    lattice : Tensor, shape (B, 3, 3)
    orientations : Tensor, shape (B, U, 3, 3)

    Returns
    -------
    projected : Tensor, shape (B, U, 3, 3)
    regular : Tensor of bool, shape (B, U)
        False where the average over the site symmetry is nearly singular: draw again.
    """
    projected = nearest_rotation(orientations)
    regular = torch.ones_like(packed.oriented)
    where = packed.oriented & (packed.site_order > 1)
    if not bool(where.any()):
        return projected, regular
    operations = cart_stabilizer(packed, lattice)[where]
    weight = packed.stabilizer_weight[where][..., None, None]
    turned = operations.transpose(-1, -2) @ projected[where][:, None] @ packed.body_operations[where]
    mean = (weight * turned).sum(1)
    linear = packed.linear[where]
    axis = mean[..., 0]
    length = torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
    along = rotation_onto(axis / length.clamp_min(1e-12))
    result = torch.where(linear[:, None, None], along, polar_factor(mean))
    projected[where] = result
    regular[where] = torch.where(linear, length.squeeze(-1) > SINGULAR, torch.linalg.det(mean) > SINGULAR)
    return projected, regular
