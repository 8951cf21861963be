"""Random placement: origins uniform on their sites, orientations uniform among the allowed ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.errors import ComputationError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations
from nanh2lib.search.packing import (
    PackedState,
    PackedTemplates,
    pack_templates,
    project_orientations,
    unpack_state,
)

_MAX_REDRAWS = 100


def random_placement(
    templates: Sequence[Template], lattice_parameters: Tensor, generators: Sequence[torch.Generator]
) -> list[AsymmetricUnit]:
    """Random asymmetric units, one for each template, each from its own generator.

    Parameters
    ----------
    templates : sequence of Template, length B
    lattice_parameters : Tensor, shape (B, 6)
        A and degrees, with the metric symmetry of each group.
    generators : sequence of torch.Generator, length B

    Returns
    -------
    list of AsymmetricUnit
        Batches of one, float64, exactly on their sites. Origins are uniform on the site's free
        subspace (all of the cell for a general position); orientations are Haar-uniform rotations
        projected onto the site's allowed set, drawn again where the projection is not defined.
    """
    packed = pack_templates(templates)
    state = place_packed(packed, lattice_parameters, [t.n_units for t in templates], generators)
    return unpack_state(templates, lattice_parameters, state)


def place_packed(
    packed: PackedTemplates, lattice_parameters: Tensor, n_units: Sequence[int], generators: Sequence[torch.Generator]
) -> PackedState:
    """`random_placement` on packed tensors; see there."""
    lattice = lattice_parameters_to_matrix(lattice_parameters)
    shape = packed.oriented.shape
    uniform = torch.zeros(*shape, 3, dtype=torch.float64)
    orientations = torch.eye(3, dtype=torch.float64).repeat(*shape, 1, 1)
    for i, (count, generator) in enumerate(zip(n_units, generators, strict=True)):
        uniform[i, :count] = torch.rand(count, 3, generator=generator, dtype=torch.float64)
        orientations[i, :count] = random_rotations(count, generator)
    projected, regular = project_orientations(packed, lattice, orientations)
    for _ in range(_MAX_REDRAWS):
        if bool(regular.all()):
            break
        for i in torch.nonzero(~regular.all(1)).flatten().tolist():
            fresh = random_rotations(n_units[i], generators[i])
            bad = ~regular[i, : n_units[i]]
            orientations[i, : n_units[i]][bad] = fresh[bad]
        projected, regular = project_orientations(packed, lattice, orientations)
    else:
        raise ComputationError(f"no regular orientation in {_MAX_REDRAWS} draws on a special position")
    identity = torch.eye(3, dtype=torch.float64)
    projected = torch.where(packed.oriented[..., None, None], projected, identity)
    return PackedState(lattice, uniform_on_sites(packed, uniform), projected)


def uniform_on_sites(packed: PackedTemplates, uniform: Tensor) -> Tensor:
    """Origins uniform on the free subspaces of sites.

    Parameters
    ----------
    packed : PackedTemplates
    uniform : Tensor, shape (B, U, 3)
        Uniform in [0, 1).

    Returns
    -------
    Tensor, shape (B, U, 3)
        ``order * P @ u + offset``. P is an average of ``order`` integer matrices, so ``order * P``
        is a whole matrix, a group homomorphism of the torus: it carries the uniform measure onto
        the uniform measure of its image, which ``P @ u`` alone does not (on x,x,z it would give
        the triangular law of (u1 + u2) / 2). Wrapped where wrapping stays on the site.
    """
    multiple = packed.site_order[..., None, None] * packed.origin_projection
    return wrap_on_sites(packed, (multiple @ uniform[..., None]).squeeze(-1) + packed.origin_offset)


def wrap_on_sites(packed: PackedTemplates, origins: Tensor) -> Tensor:
    """Origins (B, U, 3) moved towards [0, 1) by lattice vectors that lie in the site's own subspace."""
    shift = (packed.origin_projection @ torch.floor(origins)[..., None]).squeeze(-1)
    whole = (shift - torch.round(shift)).abs().amax(-1, keepdim=True) < 1e-9
    return torch.where(whole, origins - torch.round(shift), origins)
