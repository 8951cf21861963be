"""CIF files of printed tables: the printed asymmetric unit with the operations of its own setting."""

from __future__ import annotations

from pathlib import Path

import spglib
from pymatgen.core import Structure
from pymatgen.core.operations import SymmOp
from pymatgen.io.cif import CifWriter

from nanh2lib.errors import InputError
from nanh2lib.files import write_atomically
from nanh2lib.report.published import (
    REFERENCES,
    PrintedTable,
    published_structures,
    reference_record,
    reference_table,
)


def table_cif(table: PrintedTable, hall_number: int, z: int, *, name: str, comment: str = "") -> str:
    """CIF text of a printed table.

    Parameters
    ----------
    table : PrintedTable
        Cell and representatives, kept digit by digit.
    hall_number : int
        Setting; its operations (spglib) are written out, so that no reader has to guess it.
    z : int
        Formula units per cell.
    name : str
        Name of the data block, without blanks.
    comment : str
        Put first, one ``#`` a line.

    Returns
    -------
    str
        CIF 1.1.
    """
    group = spglib.get_spacegroup_type(hall_number)
    symbols = spglib.get_symmetry_from_database(hall_number)
    operations = [
        SymmOp.from_rotation_and_translation(rotation, translation).as_xyz_str()
        for rotation, translation in zip(symbols["rotations"], symbols["translations"], strict=True)
    ]
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"data_{name}", f"_chemical_formula_sum 'H{2 * z} N{z} Na{z}'", f"_cell_formula_units_Z {z}"]
    for axis, value in zip("abc", table.lengths, strict=True):
        lines.append(f"_cell_length_{axis} {value}")
    for axis, value in zip(("alpha", "beta", "gamma"), table.angles, strict=True):
        lines.append(f"_cell_angle_{axis} {value}")
    lines += [
        f"_symmetry_Int_Tables_number {group.number}",
        f"_symmetry_space_group_name_H-M '{group.international_full}'",
        f"_symmetry_space_group_name_Hall '{group.hall_symbol}'",
        "loop_",
        "_symmetry_equiv_pos_as_xyz",
        *(f"'{operation}'" for operation in operations),
        "loop_",
        "_atom_site_label",
        "_atom_site_type_symbol",
        "_atom_site_symmetry_multiplicity",
        "_atom_site_Wyckoff_symbol",
        "_atom_site_fract_x",
        "_atom_site_fract_y",
        "_atom_site_fract_z",
        "_atom_site_occupancy",
    ]
    counts: dict[str, int] = {}
    for row in table.rows:
        counts[row.element] = counts.get(row.element, 0) + 1
        label = f"{row.element}{counts[row.element]}"
        lines.append(f"{label} {row.element} {row.multiplicity} {row.label[-1]} {row.x} {row.y} {row.z} 1")
    return "\n".join(lines) + "\n"


def published_cifs(*, as_printed: bool = False, references: bool = True) -> dict[str, str]:
    """CIF text by key: the eight structures in printed order, then the reference phases.

    Parameters
    ----------
    as_printed : bool
        Without the errata.
    references : bool
        Add ``"alpha"``.
    """
    texts = {}
    for item in published_structures():
        remarks = [f"Table {item.table} of the supplement, {item.printed.symbol} (Z = {item.z})"]
        for erratum in item.errata:
            state = "not applied" if as_printed and erratum.kind == "correction" else erratum.kind
            remarks.append(f"{state}: {erratum.field} printed {erratum.printed}, holds {erratum.holds}")
        table = item.printed if as_printed else item.corrected
        texts[item.key] = table_cif(table, item.hall_number, item.z, name=item.key, comment="\n".join(remarks))
    if references:
        for name in REFERENCES:
            record = reference_record(name)
            source = record["provenance"]
            comment = f"{record['name']}\n{source['cell_and_sites']}\n{source['coordinates']}"
            hall_number, z = int(record["hall_number"]), int(record["z"])
            texts[name] = table_cif(reference_table(name), hall_number, z, name=name, comment=comment)
    return texts


def write_cifs(directory: str | Path, *, as_printed: bool = False, references: bool = True) -> list[Path]:
    """Write one CIF per published structure (and per reference phase) into ``directory``.

    Each file appears complete or not at all.

    Parameters
    ----------
    directory : path
        Made if it is missing.
    as_printed : bool
        Without the errata.
    references : bool
        Add ``alpha.cif``.

    Returns
    -------
    list of Path
        In the order of the tables.

    Raises
    ------
    InputError
        The directory cannot be written.
    """
    directory = Path(directory)
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for key, text in published_cifs(as_printed=as_printed, references=references).items():
            paths.append(write_atomically(directory / f"{key}.cif", text.encode()))
    except OSError as error:
        raise InputError(f"{directory}: cannot write CIF files there ({error}); choose another directory") from error
    return paths


def structure_cif(structure: Structure, symprec: float = 1e-2) -> str:
    """CIF text of a crystal with its space group, written by pymatgen.

    Parameters
    ----------
    structure : Structure
    symprec : float
        Tolerance of the symmetry search, A.
    """
    return str(CifWriter(structure, symprec=symprec))
