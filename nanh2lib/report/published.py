"""Tables S1 and S2 of the supplement as data, their misprints, and the experimental alpha phase.

The printed strings live in ``nanh2lib/data/published.json``, guarded by a checksum: a lost or
changed number is an error, not another crystal. Errata are kept apart from the printed values.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from nanh2lib.errors import InputError

PUBLISHED_SHA256 = "9b7da0e08367ae8dc4d4c177c357b934ed4771d2c41a7220a278c7107c55e3e6"
"""SHA-256 of the canonical JSON of ``published.json`` (see :func:`document_checksum`)."""

REFERENCES = ("alpha",)
MERGE_FRACTIONAL = 1e-3
"""Images closer than this in every fractional coordinate are one atom; the tables print 4 decimals."""


@dataclass(frozen=True)
class PrintedRow:
    """One line of a printed table: element, Wyckoff label, and three coordinates as printed.

    Attributes
    ----------
    element : str
    label : str
        Multiplicity and letter, ``"4e"``.
    x, y, z : str
        Fractional coordinates, digit by digit as printed.
    """

    element: str
    label: str
    x: str
    y: str
    z: str

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """Fractional coordinates, shape (3,)."""
        return np.array([float(self.x), float(self.y), float(self.z)])

    @property
    def multiplicity(self) -> int:
        """Atoms per cell that the label stands for (4 for ``4e``)."""
        return int(self.label[:-1])


@dataclass(frozen=True)
class PrintedTable:
    """One structure as printed: symbol, cell and rows, every number a string.

    Attributes
    ----------
    symbol : str
        Space group as printed, without underscores (``"P21/c"``).
    lengths, angles : tuple of str
        a, b, c in A; alpha, beta, gamma in degrees.
    rows : tuple of PrintedRow
        In printed order: H, N, Na.
    """

    symbol: str
    lengths: tuple[str, str, str]
    angles: tuple[str, str, str]
    rows: tuple[PrintedRow, ...]

    @property
    def lattice_parameters(self) -> NDArray[np.float64]:
        """a, b, c, alpha, beta, gamma, shape (6,), A and degrees."""
        return np.array([float(value) for value in (*self.lengths, *self.angles)])


@dataclass(frozen=True)
class Erratum:
    """A misprint (``kind="correction"``) or a remark, with the evidence for it.

    Attributes
    ----------
    field : str
        ``"gamma"``, ``"labels"`` or ``"space_group"``.
    printed, holds : str
        What stands in the table and what is right.
    """

    kind: str
    field: str
    printed: str
    holds: str
    evidence: str


@dataclass(frozen=True)
class PublishedStructure:
    """One of the eight crystals of Tables S1 and S2.

    Attributes
    ----------
    key : str
        Name that is also a file name, e.g. ``"S1-P21212"``, ``"S2-P21c"``.
    table : str
        ``"S1"`` (conventional search) or ``"S2"`` (generative model).
    space_group : str
        Symbol with underscores, e.g. ``"P2_1/c"``.
    space_group_number, hall_number, z : int
        The Hall number names the printed setting; z counts formula units per cell.
    structure : Structure
        Full cell with the errata applied, atoms in printed order, orbit by orbit.
    structure_as_printed : Structure
        The same without the errata.
    errata : tuple of Erratum
    printed : PrintedTable
        Raw strings.
    corrected : PrintedTable
        The strings with the errata applied.
    """

    key: str
    table: str
    space_group: str
    space_group_number: int
    hall_number: int
    z: int
    structure: Structure
    structure_as_printed: Structure
    errata: tuple[Erratum, ...]
    printed: PrintedTable
    corrected: PrintedTable

    @property
    def title(self) -> str:
        """Heading in the paper's style, e.g. ``"P2_1/c (Z = 4)"``."""
        return f"{self.space_group} (Z = {self.z})"


def document_checksum(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON document in canonical form (sorted keys, no white space)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def expand_orbits(table: PrintedTable, hall_number: int, place: str = "table") -> Structure:
    """Full cell from one representative per orbit.

    The operations of the setting ``hall_number`` come from spglib and act on columns, x' = W x + w;
    coincident images (special positions) merge; coordinates are wrapped into [0, 1).

    Parameters
    ----------
    table : PrintedTable
        Cell and representatives.
    hall_number : int
        1 to 530.
    place : str
        Name for error messages.

    Raises
    ------
    InputError
        An orbit has not as many atoms as its label says.
    """
    operations = spglib.get_symmetry_from_database(hall_number)
    species: list[str] = []
    coordinates: list[NDArray[np.float64]] = []
    for row in table.rows:
        images = operations["rotations"] @ row.coordinates + operations["translations"]
        orbit = _merge(np.round(images, 10) % 1.0)
        if len(orbit) != row.multiplicity:
            raise InputError(
                f"{place}: {row.element}({row.label}) at {row.x} {row.y} {row.z} expands to {len(orbit)} atoms in "
                f"Hall setting {hall_number}, the label says {row.multiplicity}; check the row and the setting"
            )
        species += [row.element] * len(orbit)
        coordinates.append(orbit)
    lattice = Lattice.from_parameters(*table.lattice_parameters, vesta=True)
    return Structure(lattice, species, np.concatenate(coordinates))


def _merge(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """First image of each set of periodic copies that coincide; (M, 3) -> (m, 3)."""
    difference = images[:, None] - images[None]
    same = np.abs(difference - np.round(difference)).max(axis=-1) < MERGE_FRACTIONAL
    first = np.argmax(same, axis=1) == np.arange(len(images))
    return np.asarray(images[first])


def parse_published(
    document: Mapping[str, Any], *, checksum: str | None = PUBLISHED_SHA256
) -> tuple[PublishedStructure, ...]:
    """Build the published structures from a parsed ``published.json``.

    Parameters
    ----------
    document : mapping
        Content of the file.
    checksum : str or None
        Expected SHA-256; None skips that test (the others remain).

    Raises
    ------
    InputError
        The data differ from what was transcribed, are incomplete, or do not make NaNH2.
    """
    if checksum is not None and document_checksum(document) != checksum:
        raise InputError(
            "published.json: its checksum is not the one of the transcribed tables; a number was changed or lost. "
            "Restore the file from the package"
        )
    try:
        return tuple(_parse_entry(entry, document["errata"]) for entry in document["structures"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"published.json: incomplete entry ({error!r}); restore the file from the package") from error


def _parse_entry(entry: Mapping[str, Any], errata: Sequence[Mapping[str, str]]) -> PublishedStructure:
    key = entry["key"]
    rows = tuple(_parse_row(row, key) for row in entry["rows"])
    printed = PrintedTable(entry["symbol"], _three(entry["lengths"], key), _three(entry["angles"], key), rows)
    own = tuple(Erratum(**{k: v for k, v in item.items() if k != "key"}) for item in errata if item["key"] == key)
    corrected = apply_errata(printed, own)
    hall_number, z = int(entry["hall_number"]), int(entry["z"])
    structure = expand_orbits(corrected, hall_number, key)
    counts = {element: structure.composition[element] for element in ("Na", "N", "H")}
    if counts != {"Na": z, "N": z, "H": 2 * z}:
        raise InputError(f"published.json: {key} has {counts} atoms, expected {z} NaNH2; a row is missing or wrong")
    return PublishedStructure(
        key=key,
        table=entry["table"],
        space_group=entry["space_group"],
        space_group_number=int(entry["space_group_number"]),
        hall_number=hall_number,
        z=z,
        structure=structure,
        structure_as_printed=expand_orbits(printed, hall_number, key),
        errata=own,
        printed=printed,
        corrected=corrected,
    )


def _number(text: Any, key: str) -> str:
    if not isinstance(text, str) or not re.fullmatch(r"-?\d+\.\d+", text):
        raise InputError(f"published.json: {key}: {text!r} is not a printed number; restore the file from the package")
    return text


def _three(values: Sequence[Any], key: str) -> tuple[str, str, str]:
    if len(values) != 3:
        raise InputError(f"published.json: {key}: expected three numbers, found {list(values)}")
    a, b, c = (_number(value, key) for value in values)
    return a, b, c


def _parse_row(row: Sequence[Any], key: str) -> PrintedRow:
    if len(row) != 5:
        raise InputError(f"published.json: {key}: row {list(row)} needs element, label and three coordinates")
    element, label, *values = row
    if element not in ("H", "N", "Na") or not re.fullmatch(r"\d+[a-zA-Z]", str(label)):
        raise InputError(f"published.json: {key}: {element}({label}) is no element and Wyckoff label of the tables")
    return PrintedRow(element, label, *_three(values, key))


def apply_errata(table: PrintedTable, errata: Sequence[Erratum]) -> PrintedTable:
    """The table with its corrections; remarks change nothing.

    Raises
    ------
    InputError
        A correction is for a field that the tables do not have.
    """
    for erratum in errata:
        if erratum.kind != "correction":
            continue
        if erratum.field == "gamma":
            alpha, beta, _ = table.angles
            table = replace(table, angles=(alpha, beta, erratum.holds))
        elif erratum.field == "labels":
            rows = (replace(r, label=erratum.holds) if r.label == erratum.printed else r for r in table.rows)
            table = replace(table, rows=tuple(rows))
        else:
            raise InputError(f"published.json: no rule for a correction of {erratum.field!r}; use gamma or labels")
    return table


def _read_data(name: str) -> dict[str, Any]:
    text = (files("nanh2lib") / "data" / name).read_text(encoding="utf-8")
    try:
        data: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: not valid JSON ({error}); restore the file from the package") from error
    return data


def published_structures() -> tuple[PublishedStructure, ...]:
    """The eight structures of Tables S1 and S2, in printed order.

    Returns
    -------
    tuple of PublishedStructure
        Fresh objects at each call: changing one changes nothing else.

    Raises
    ------
    InputError
        The data file was changed.

    Notes
    -----
    Source: supplement, Tables S1 and S2. Errata: see each ``.errata``.
    """
    return parse_published(_read_data("published.json"))


def published_structure(key: str) -> PublishedStructure:
    """One published structure by key; case, underscores, slashes and blanks do not matter.

    Raises
    ------
    InputError
        No such key.
    """
    structures = published_structures()
    wanted = re.sub(r"[\s_/\-]", "", key).lower()
    for item in structures:
        if item.key.replace("-", "").lower() == wanted:
            return item
    raise InputError(f"no published structure {key!r}; choose from {', '.join(item.key for item in structures)}")


def reference_record(name: str = "alpha") -> dict[str, Any]:
    """Everything known of a reference phase: cell, sites, z, and ``provenance``.

    Raises
    ------
    InputError
        No such reference.
    """
    if name not in REFERENCES:
        raise InputError(f"no reference structure {name!r}; choose from {', '.join(REFERENCES)}")
    return _read_data(f"{name}.json")


def reference_table(name: str = "alpha") -> PrintedTable:
    """Cell and asymmetric unit of a reference phase in the form of a printed table.

    Raises
    ------
    InputError
        No such reference.
    """
    record = reference_record(name)
    rows = tuple(_parse_row(row, name) for row in record["rows"])
    return PrintedTable(record["space_group"], _three(record["lengths"], name), _three(record["angles"], name), rows)


def reference_structure(name: str = "alpha") -> Structure:
    """Experimental phase of NaNH2: ``"alpha"``, Fddd (origin choice 1), 64 atoms.

    The cell and the heavy atoms' sites are experimental (Zalkin and Templeton, J. Phys. Chem. 60,
    821 (1956)); the coordinates, hydrogens among them, were relaxed by us: see
    ``reference_record(name)["provenance"]``.

    Raises
    ------
    InputError
        No such reference.
    """
    return expand_orbits(reference_table(name), int(reference_record(name)["hall_number"]), name)
