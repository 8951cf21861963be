"""Crystals of compounds other than sodium amide that the book holds its own results against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from pymatgen.core import Lattice, Structure

from nanh2lib.errors import InputError

KNOWN_COMPOUNDS = ("KNH2",)


@dataclass(frozen=True)
class KnownCompound:
    """A published crystal, and what was measured of it.

    Attributes
    ----------
    name : str
        E.g. ``"KNH2, low-temperature form"``.
    structure : Structure
        As published: here computed, since X-rays hardly see hydrogen.
    measured : Lattice
        Cell of the experiment.
    source, measured_source : str
    """

    name: str
    structure: Structure
    measured: Lattice
    source: str
    measured_source: str


def known_compound(name: str) -> KnownCompound:
    """A published crystal by its formula.

    Parameters
    ----------
    name : str
        One of `KNOWN_COMPOUNDS`.

    Raises
    ------
    InputError
        No such crystal comes with the package.
    """
    if name not in KNOWN_COMPOUNDS:
        raise InputError(f"no published crystal of {name!r}; choose from {', '.join(KNOWN_COMPOUNDS)}")
    record = json.loads((files("nanh2lib") / "data" / f"{name.lower()}.json").read_text(encoding="utf-8"))
    species = [row[0] for row in record["rows"]]
    coords = [row[2:] for row in record["rows"]]
    return KnownCompound(
        name=record["name"],
        structure=Structure.from_spacegroup(record["space_group"], _lattice(record), species, coords),
        measured=_lattice(record["measured"]),
        source=record["source"],
        measured_source=record["measured"]["source"],
    )


def _lattice(record: dict[str, list[float]]) -> Lattice:
    return Lattice.from_parameters(*record["lengths"], *record["angles"])
