"""Crystals in the table format of the supplement: cell, angles, one row an orbit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.optimize import linear_sum_assignment

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import InputError
from nanh2lib.records import Candidate
from nanh2lib.report.html_table import html_table
from nanh2lib.report.molecules import find_molecules
from nanh2lib.report.published import PrintedRow, PrintedTable, PublishedStructure, expand_orbits
from nanh2lib.report.setting import SettledCrystal, settle

FloatArray = NDArray[np.float64]
GREEK = ("α", "β", "γ")


@dataclass(frozen=True)
class StructureTable:
    """One crystal in the form of Tables S1 and S2.

    Attributes
    ----------
    table : PrintedTable
        Symbol, cell (3 decimals) and rows (4 decimals) as strings, ordered by element: H, N, Na.
    hall_number : int
        Setting of the rows.
    z : int
        Formula units per cell.
    origin_choice : str
        ``"1"`` or ``"2"`` where the group has two, else empty.
    standardized : bool
        The cell was exchanged for the conventional one, because the given axes are no tabulated setting.
    """

    table: PrintedTable
    hall_number: int
    z: int
    origin_choice: str = ""
    standardized: bool = False

    @property
    def title(self) -> str:
        """E.g. ``"P2_1/c (Z = 4)"``."""
        choice = f", origin choice {self.origin_choice}" if self.origin_choice else ""
        return f"{self.table.symbol} (Z = {self.z}){choice}"

    def structure(self) -> Structure:
        """The full crystal that the rounded table describes."""
        return expand_orbits(self.table, self.hall_number, self.title)

    def text(self) -> str:
        """The table as plain text, as the supplement prints it."""
        rows = [("a, b, c", *self.table.lengths), (", ".join(GREEK), *self.table.angles)]
        rows += [(f"{row.element}({row.label})", row.x, row.y, row.z) for row in self.table.rows]
        first = max(len(row[0]) for row in rows)
        width = max(len(cell) for row in rows for cell in row[1:])
        body = [row[0].ljust(first) + "".join(f"  {cell:>{width}}" for cell in row[1:]) for row in rows]
        return "\n".join([self.title, *body]) + "\n"

    def markdown(self) -> str:
        """The table in Markdown, title in bold."""
        lines = [f"**{self.title}**", "", "| | | | |", "|:--|--:|--:|--:|"]
        lines.append("| a, b, c (Å) | " + " | ".join(self.table.lengths) + " |")
        lines.append(f"| {', '.join(GREEK)} (°) | " + " | ".join(self.table.angles) + " |")
        lines += [f"| {row.element}({row.label}) | {row.x} | {row.y} | {row.z} |" for row in self.table.rows]
        return "\n".join(lines) + "\n"

    def frame(self) -> pd.DataFrame:
        """The table as strings with the index a, b, c / angles / sites and the columns 1, 2, 3."""
        index = ["a, b, c", ", ".join(GREEK), *(f"{row.element}({row.label})" for row in self.table.rows)]
        cells = [
            list(self.table.lengths),
            list(self.table.angles),
            *([r.x, r.y, r.z] for r in self.table.rows),
        ]
        frame = pd.DataFrame(cells, index=pd.Index(index, name=self.title), columns=["1", "2", "3"])
        return frame

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "title": self.title,
            "space_group": self.table.symbol,
            "hall_number": self.hall_number,
            "z": self.z,
            "lengths": list(self.table.lengths),
            "angles": list(self.table.angles),
            "rows": [[r.element, r.label, r.x, r.y, r.z] for r in self.table.rows],
            "standardized": self.standardized,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StructureTable:
        """From the form that `to_dict` gives.

        Raises
        ------
        InputError
            A part is missing.
        """
        try:
            a, b, c = (str(value) for value in data["lengths"])
            alpha, beta, gamma = (str(value) for value in data["angles"])
            rows = tuple(PrintedRow(*(str(cell) for cell in row)) for row in data["rows"])
            table = PrintedTable(str(data["space_group"]), (a, b, c), (alpha, beta, gamma), rows)
            return cls(table, int(data["hall_number"]), int(data["z"]), standardized=bool(data["standardized"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a table of a crystal ({error!r}); see StructureTable.to_dict") from error

    def html(self, source: str = "") -> str:
        """Write the table as HTML; its caption is the title, and where it comes from."""
        rows = [("a, b, c (Å)", self.table.lengths), (f"{', '.join(GREEK)} (°)", self.table.angles)]
        rows += [(f"{row.element}({row.label})", (row.x, row.y, row.z)) for row in self.table.rows]
        return html_table(f"{self.title}. {source}" if source else self.title, (), rows)

    def _repr_html_(self) -> str:
        return self.html()


def structure_table(crystal: Structure | Candidate | PublishedStructure, *, symprec: float = 1e-2) -> StructureTable:
    """Describe a crystal as the supplement does.

    The axes are those given where they are a tabulated setting (any of the 530), with the origin
    moved onto it; else spglib's conventional cell, said so in ``standardized``. Representatives of
    one molecule are chosen together, its heaviest atom in [0, 1), so that coordinates may leave [0, 1).

    Parameters
    ----------
    crystal : Structure, Candidate or PublishedStructure
        A published structure gives its own table, errata applied.
    symprec : float
        Distance tolerance, A.

    Returns
    -------
    StructureTable

    Raises
    ------
    ComputationError
        spglib finds no space group.
    """
    if isinstance(crystal, PublishedStructure):
        table = PrintedTable(
            crystal.space_group, crystal.corrected.lengths, crystal.corrected.angles, crystal.corrected.rows
        )
        return StructureTable(table, crystal.hall_number, crystal.z)
    structure = crystal.structure if isinstance(crystal, Candidate) else crystal
    settled = settle(structure, symprec)
    lattice = settled.structure.lattice
    table = PrintedTable(
        symbol=settled.group.symbol,
        lengths=_strings(lattice.abc, 3),
        angles=_strings(lattice.angles, 3),
        rows=tuple(_rows(settled)),
    )
    choice = settled.group.choice if settled.group.choice in ("1", "2") else ""
    return StructureTable(
        table, settled.group.hall_number, formula_units(settled.structure), choice, settled.standardized
    )


def formula_units(structure: Structure) -> int:
    """Formula units per cell: the composition over its reduced formula."""
    return int(round(structure.composition.get_reduced_composition_and_factor()[1]))


def _decimal(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text[1:] if float(text) == 0.0 and text.startswith("-") else text


def _strings(values: Any, digits: int) -> tuple[str, str, str]:
    one, two, three = (_decimal(float(value), digits) for value in values)
    return one, two, three


def _rows(settled: SettledCrystal) -> list[PrintedRow]:
    """One representative an orbit, molecules together, ordered by element symbol."""
    structure = settled.structure
    whole = find_molecules(structure)
    rank = np.array([site.specie.Z for site in structure])
    chosen: dict[int, FloatArray] = {}
    cells: dict[int, FloatArray] = {}  # by molecule: the cell of its heaviest atom
    for k in sorted(range(len(settled.orbits)), key=lambda k: -rank[settled.orbits[k].indices[0]]):
        orbit = settled.orbits[k]
        together = [i for i in orbit.indices if int(whole.molecule[i]) in cells]
        atom = together[0] if together else orbit.indices[0]
        point = _on_site(whole.frac_coords[atom], orbit.label, settled.group)
        cell = cells.setdefault(int(whole.molecule[atom]), np.floor(np.round(point, 4)))
        chosen[k] = point - cell
    rows = []
    for k in sorted(chosen, key=lambda k: settled.orbits[k].element):
        orbit = settled.orbits[k]
        rows.append(PrintedRow(orbit.element, orbit.label, *_strings(chosen[k], 4)))
    return rows


def _on_site(point: FloatArray, label: str, group: SpaceGroup) -> FloatArray:
    """The point moved onto the exact special position whose label it bears."""
    if label.endswith("?"):
        return point
    site = group.site(label[-1])
    if site.degrees_of_freedom == 3:
        return point
    images = np.einsum("gij,j->gi", group.rotations, point) + group.translations
    best: tuple[float, FloatArray] | None = None
    for rotation, translation, image in zip(group.rotations, group.translations, images, strict=True):
        for cell in np.ndindex(3, 3, 3):
            shifted = image - np.floor(image) + np.array(cell) - 1
            projected = site.projection @ shifted + site.offset
            gap = float(np.abs(projected - shifted).max())
            if best is None or gap < best[0] - 1e-9:
                back = np.linalg.solve(rotation.astype(float), projected - translation)
                best = gap, back - np.round(back - point)
    return point if best is None else np.asarray(best[1])


def comparison_table(
    printed: PublishedStructure | PrintedTable,
    recomputed: Structure | Candidate | PrintedTable,
    *,
    source: str = "recomputed",
) -> pd.DataFrame:
    """Printed, recomputed and difference, three groups of columns kept apart.

    Each printed representative is matched, one to one, with the nearest atom of its element in the
    recomputed crystal. Where the origin of a published structure is free (y in P2_1, x and z in Pc), the
    mean displacement along it is taken out.

    Parameters
    ----------
    printed : PublishedStructure or PrintedTable
        Left column; of a published structure the table with its errata.
    recomputed : Structure, Candidate or PrintedTable
        The same cell setting; atoms in any order.
    source : str
        Heading of the middle group, e.g. ``"sevennet-0, profile default"``.

    Returns
    -------
    DataFrame
        Index: a, b, c / angles / site labels; columns: (printed | source | difference) x (1, 2, 3).
        Lengths in A, angles in degrees, coordinates fractional.

    Raises
    ------
    InputError
        The recomputed crystal lacks an element of the table.
    """
    table = printed.corrected if isinstance(printed, PublishedStructure) else printed
    if isinstance(recomputed, PrintedTable):
        lattice = np.array(recomputed.lattice_parameters)
        symbols = [row.element for row in recomputed.rows]
        points = np.array([row.coordinates for row in recomputed.rows])
    else:
        structure = recomputed.structure if isinstance(recomputed, Candidate) else recomputed
        lattice = np.array(structure.lattice.parameters)
        symbols = [site.specie.symbol for site in structure]
        points = structure.frac_coords
    matched = _matched(table, symbols, points, lattice[:3])
    if isinstance(printed, PublishedStructure):
        matched = _without_drift(table, matched, SpaceGroup.from_hall(printed.hall_number))
    left = [list(table.lengths), list(table.angles), *([row.x, row.y, row.z] for row in table.rows)]
    middle = [_strings(lattice[:3], 3), _strings(lattice[3:], 3), *(_strings(point, 4) for point in matched)]
    digits = [3, 3] + [4] * len(table.rows)
    right = [
        [_signed(float(m) - float(p), d) for p, m in zip(ps, ms, strict=True)]
        for ps, ms, d in zip(left, middle, digits, strict=True)
    ]
    index = ["a, b, c", ", ".join(GREEK), *(f"{row.element}({row.label})" for row in table.rows)]
    columns = pd.MultiIndex.from_product([["printed", source, "difference"], ["1", "2", "3"]])
    cells = [[*p, *m, *d] for p, m, d in zip(left, middle, right, strict=True)]
    return pd.DataFrame(cells, index=index, columns=columns)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return _decimal(0.0, digits) if float(text) == 0.0 else text


def _matched(table: PrintedTable, symbols: list[str], points: FloatArray, lengths: FloatArray) -> list[FloatArray]:
    """For each printed row the recomputed atom nearest to it, in the printed image."""
    result: list[FloatArray] = [np.zeros(3)] * len(table.rows)
    for element in dict.fromkeys(row.element for row in table.rows):
        rows = [k for k, row in enumerate(table.rows) if row.element == element]
        atoms = [i for i, symbol in enumerate(symbols) if symbol == element]
        if len(atoms) < len(rows):
            raise InputError(
                f"comparison: the recomputed crystal has {len(atoms)} {element}, the printed table {len(rows)} rows; "
                "compare crystals of the same compound and cell"
            )
        target = np.array([table.rows[k].coordinates for k in rows])
        gap = points[atoms][None] - target[:, None]
        gap -= np.round(gap)
        row_order, atom_order = linear_sum_assignment((gap * lengths) ** 2 @ np.ones(3))
        for k, i in zip(row_order, atom_order, strict=True):
            result[rows[k]] = target[k] + gap[k, i]
    return result


def _without_drift(table: PrintedTable, matched: list[FloatArray], group: SpaceGroup) -> list[FloatArray]:
    """Matched points less their mean displacement along the group's free origin directions."""
    directions = group.free_origin_shifts().directions
    if not len(directions):
        return matched
    basis, _ = np.linalg.qr(directions.T)
    mean = np.mean([m - row.coordinates for row, m in zip(table.rows, matched, strict=True)], axis=0)
    return [point - basis @ (basis.T @ mean) for point in matched]


def comparison_markdown(frame: pd.DataFrame) -> str:
    """A comparison as a Markdown table, its three groups side by side."""
    groups = list(dict.fromkeys(frame.columns.get_level_values(0)))
    lines = [
        "| | " + " | ".join(f"{group} | | " for group in groups) + "|",
        "|:--|" + "--:|" * len(frame.columns),
    ]
    lines += [
        f"| {name} | " + " | ".join(map(str, row)) + " |"
        for name, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return "\n".join(lines) + "\n"
