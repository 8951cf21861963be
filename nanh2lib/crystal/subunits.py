"""The supplement's rigid NaNH2 subunits: pairs of Na and NH2 forced into one shape, and back.

This is lossy. Na lies on the bisector of NH2 at a fixed distance in the rigid subunit; in the
published structures it does not. A template whose Na and N lie on different sites cannot be
written at all.
"""

from __future__ import annotations

import numpy as np
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.rigid_unit import NA, NANH2, NH2, RigidUnit
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import nearest_rotation


class SubunitError(InputError):
    """A template that rigid NaNH2 subunits cannot hold."""


def subunit_template(template: Template) -> Template:
    """Template of NaNH2 subunits for a template of Na and NH2 units, paired in order.

    Raises
    ------
    SubunitError
        Units other than Na and NH2, unequal numbers, or a pair on different Wyckoff sites.
    """
    sodium = [site for site in template.sites if site.unit == NA]
    amide = [site for site in template.sites if site.unit == NH2]
    if len(sodium) + len(amide) != template.n_units or len(sodium) != len(amide):
        raise SubunitError(
            f"template {template.label}: {len(sodium)} Na and {len(amide)} NH2 sites of {template.n_units}; "
            "rigid NaNH2 needs as many of each and nothing else; use scheme 'split'"
        )
    sites = []
    for first, second in zip(sodium, amide, strict=True):
        if first.wyckoff_letter != second.wyckoff_letter:
            raise SubunitError(
                f"template {template.label}: Na on site {first.wyckoff_letter} is paired with NH2 on site "
                f"{second.wyckoff_letter}; a rigid NaNH2 has both on one site; use scheme 'split'"
            )
        mode = _same_mode(template.hall_number, second.wyckoff_letter, NH2, second.orientation_mode, NANH2)
        sites.append(Site(NANH2, second.wyckoff_letter, mode))
    return Template(template.hall_number, tuple(sites))


def _same_mode(hall_number: int, letter: str, source: RigidUnit, mode: int, target: RigidUnit) -> int:
    wanted = orientation_modes(source, hall_number, letter)[mode]
    for index, operations in enumerate(orientation_modes(target, hall_number, letter)):
        if np.abs(operations - wanted).max() < 1e-3:
            return index
    raise SubunitError(
        f"{target.name} has no orientation on site {letter} of Hall {hall_number} like that of {source.name}"
    )


def to_subunits(asymmetric_unit: AsymmetricUnit) -> AsymmetricUnit:
    """Fit rigid NaNH2 subunits to pairs of Na and NH2 (least squares over the four atoms).

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Na and NH2 units in paired order, as `extract_asymmetric_unit` gives them.

    Returns
    -------
    AsymmetricUnit
        On a template of NaNH2 subunits; what is lost is the atoms' deviation from it.

    Raises
    ------
    SubunitError
        See `subunit_template`; also when Na of a pair is not left in place by the site
        symmetry of its NH2 (different axes).
    """
    unit = asymmetric_unit
    template = subunit_template(unit.template)
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)
    sodium = [i for i, u in enumerate(unit.units) if u == NA]
    amide = [i for i, u in enumerate(unit.units) if u == NH2]
    _check_axes(unit, sodium, amide)
    cart = unit.frac_origins @ lattice
    n, rotation = cart[:, amide], unit.rotations[:, amide]
    offset = cart[:, sodium] - n
    # The image of Na nearest to its N, over the 27 cells around.
    cells = torch.cartesian_prod(*[torch.arange(-1, 2, dtype=unit.dtype)] * 3) @ lattice
    options = offset[:, :, None] + cells[:, None]
    nearest = (options**2).sum(-1).argmin(-1)
    offset = torch.gather(options, 2, nearest[..., None, None].expand(*nearest.shape, 1, 3))[:, :, 0]
    hydrogens = (rotation @ torch.as_tensor(NH2.body.T, dtype=unit.dtype)).transpose(-1, -2)
    atoms = torch.cat([hydrogens, offset[:, :, None]], dim=2)  # (B, U, 4, 3) about N
    body = torch.as_tensor(NANH2.body, dtype=unit.dtype)
    centre, body_centre = atoms.mean(2, keepdim=True), body.mean(0)
    fitted = nearest_rotation((atoms - centre).transpose(-1, -2) @ (body - body_centre))
    origin = n + centre[:, :, 0] - (fitted @ body_centre)
    frac = origin @ torch.linalg.inv(lattice)
    return project(AsymmetricUnit(template, unit.lattice_parameters, frac, fitted))


def _check_axes(unit: AsymmetricUnit, sodium: list[int], amide: list[int]) -> None:
    for na, nh2 in zip(sodium, amide, strict=True):
        site = unit.template.wyckoff_sites[nh2]
        rotations = torch.as_tensor(site.stabilizer_rotations, dtype=unit.dtype)
        difference = unit.frac_origins[:, na] - unit.frac_origins[:, nh2]
        moved = torch.einsum("sij,bj->sbi", rotations, difference) - difference
        if float(moved.abs().max()) > 1e-4:
            raise SubunitError(
                f"template {unit.template.label}: Na and N of a pair lie on different axes of site {site.label}; "
                "a rigid NaNH2 cannot be written there; use scheme 'split'"
            )


def from_subunits(asymmetric_unit: AsymmetricUnit) -> AsymmetricUnit:
    """Na and NH2 units (all Na first) of a batch of NaNH2 subunits; atoms stay where they are.

    Raises
    ------
    SubunitError
        The units are not NaNH2 subunits.
    """
    unit = asymmetric_unit
    if any(u != NANH2 for u in unit.units):
        raise SubunitError(f"template {unit.template.label} is not made of rigid NaNH2 subunits")
    hall = unit.hall_number
    amide = [
        Site(NH2, s.wyckoff_letter, _same_mode(hall, s.wyckoff_letter, NANH2, s.orientation_mode, NH2))
        for s in unit.template.sites
    ]
    sodium = [Site(NA, site.wyckoff_letter) for site in unit.template.sites]
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)
    body = torch.as_tensor(NANH2.body[3], dtype=unit.dtype)
    offset = (unit.rotations @ body) @ torch.linalg.inv(lattice)
    eye = torch.eye(3, dtype=unit.dtype).expand_as(unit.rotations)
    return AsymmetricUnit(
        Template(hall, (*sodium, *amide)),
        unit.lattice_parameters,
        torch.cat([unit.frac_origins + offset, unit.frac_origins], dim=1),
        torch.cat([eye, unit.rotations], dim=1),
    )
