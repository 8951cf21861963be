"""Crystals from files, with one clear error for what is not a crystal."""

from __future__ import annotations

import warnings
from pathlib import Path

from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from nanh2lib.crystal.setting import checked_structure
from nanh2lib.errors import InputError


def read_structure(path: str | Path) -> Structure:
    """Read one crystal (CIF, POSCAR, extended XYZ, pymatgen JSON).

    Parameters
    ----------
    path : path

    Returns
    -------
    Structure
        In a right-handed cell.

    Raises
    ------
    InputError
        No such file, or not a crystal that pymatgen or ASE can read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a CIF, POSCAR or extended XYZ file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() in (".xyz", ".extxyz"):
                structure = _from_ase(path)
            else:
                structure = Structure.from_file(path)
    # The readers raise whatever they stumble over first; all of it means the same to a user.
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, OSError) as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: not a crystal structure that can be read ({detail}); give a CIF, POSCAR or extended XYZ file"
        ) from error
    return checked_structure(structure)


def _from_ase(path: Path) -> Structure:
    from ase.io import read

    atoms = read(path)
    if isinstance(atoms, list) or not atoms.pbc.all():
        raise ValueError("no periodic cell")
    structure = AseAtomsAdaptor.get_structure(atoms)
    if not isinstance(structure, Structure):
        raise ValueError("no periodic cell")
    return structure
