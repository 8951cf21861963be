"""What a crystal loses when it is encoded as z and decoded again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.deviation import Deviation, deviation, in_tabulated_origin
from nanh2lib.crystal.encoding import Scheme, decode, encode
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.crystal.subunits import SubunitError, from_subunits, subunit_template

NEIGHBOR_RADIUS = 4.0  # A


@dataclass(frozen=True)
class RoundTrip:
    """One crystal through one scheme.

    Attributes
    ----------
    scheme : {"split", "paper"}
    template : str
        Label of its template.
    length : int
        Entries of z; 0 where the scheme refuses the crystal.
    error : Deviation or None
        Distances between the original atoms and the decoded ones, A.
    rigid_error : float
        Root-mean-square distance, A, between the decoded crystal and the one with ideal NH2 that was encoded: what
        encoding itself loses.
    decoded : Structure or None
        In the frame of ``original``.
    original : Structure
        With its origin on that of the tabulated setting.
    refused : str
        Why the scheme cannot hold the crystal; empty where it can.
    """

    scheme: Scheme
    template: str
    length: int
    error: Deviation | None
    rigid_error: float
    decoded: Structure | None
    original: Structure
    refused: str = ""


def round_trip(structure: Structure, scheme: Scheme, symprec: float = 1e-2) -> RoundTrip:
    """Extract, encode, decode and expand a crystal of NaNH2, and compare it with itself.

    Parameters
    ----------
    structure : Structure
    scheme : {"split", "paper"}
    symprec : float
        A.

    Returns
    -------
    RoundTrip
        Source of the schemes: supplement, "Dataset construction and feature encoding".

    Raises
    ------
    InputError, ComputationError
        See `extract_asymmetric_unit`.
    """
    unit = extract_asymmetric_unit(structure, symprec, compound=SODIUM_AMIDE)
    original, label = in_tabulated_origin(structure, symprec), unit.template.label
    try:
        z = encode(unit, scheme)
        if scheme == "paper":
            back = from_subunits(decode(z, subunit_template(unit.template), scheme))
        else:
            back = decode(z, unit.template, scheme)
    except SubunitError as error:
        return RoundTrip(scheme, label, 0, None, float("nan"), None, original, str(error))
    (decoded,), (rigid,) = expand(back), expand(unit)
    return RoundTrip(
        scheme=scheme,
        template=label,
        length=int(z.shape[1]),
        error=deviation(decoded, original),
        rigid_error=deviation(decoded, rigid).rms,
        decoded=decoded,
        original=original,
    )


def sodium_directions(structure: Structure, symprec: float = 1e-2) -> NDArray[np.float64]:
    """Where the nearest Na of each NH2 lies: the numbers that a rigid NaNH2 would have to hold fixed.

    Parameters
    ----------
    structure : Structure
    symprec : float
        A.

    Returns
    -------
    ndarray, shape (n, 2)
        For each NH2 of the asymmetric unit the distance of the nearest Na from N in A, and the angle in degrees
        between the direction to it and the two-fold axis of NH2 (towards the hydrogens).
    """
    unit = extract_asymmetric_unit(structure, symprec, compound=SODIUM_AMIDE)
    crystal = in_tabulated_origin(structure, symprec)
    rows = []
    for index, kind in enumerate(unit.units):
        if kind.is_monatomic:
            continue
        nitrogen = unit.frac_origins[0, index].numpy() @ crystal.lattice.matrix
        axis = (unit.rotations[0, index] @ torch.tensor([1.0, 0.0, 0.0], dtype=unit.dtype)).numpy()
        near = [site for site in crystal.get_sites_in_sphere(nitrogen, NEIGHBOR_RADIUS) if site.specie.symbol == "Na"]
        nearest = min(near, key=lambda site: site.nn_distance)
        offset = nearest.coords - nitrogen
        cosine = float(np.clip(offset @ axis / nearest.nn_distance, -1.0, 1.0))
        rows.append((float(nearest.nn_distance), float(np.degrees(np.arccos(cosine)))))
    return np.array(rows)
