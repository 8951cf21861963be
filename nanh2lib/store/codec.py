"""Candidates as plain JSON records and back; every float keeps all its digits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from pymatgen.core import Composition, Element, Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.errors import InputError
from nanh2lib.records import Candidate, RelaxationResult, ValidationReport

Record: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Label:
    """The energy of a candidate at one potential, or why there is none.

    Attributes
    ----------
    potential : str
        Name of the potential.
    potential_hash : str
        Key of the label; empty for an energy that came with the candidate itself.
    value : float or None
        eV per formula unit.
    reason : str or None
        Why there is no value.
    """

    potential: str
    potential_hash: str
    value: float | None = None
    reason: str | None = None


def structure_to_record(structure: Structure) -> Record:
    """Lattice rows (A), element symbols, fractional coordinates; site properties are not kept.

    Raises
    ------
    InputError
        A site is partly occupied.
    """
    if not structure.is_ordered:
        raise InputError(f"{structure.composition.formula}: sites are partly occupied; give an ordered crystal")
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
    }


def record_to_structure(record: Mapping[str, Any]) -> Structure:
    """Inverse of `structure_to_record`, exact to the last digit."""
    # One composition for all sites of an element: making one for each site takes half of the time.
    elements = {symbol: Composition({Element(symbol): 1}) for symbol in set(record["species"])}
    species = [elements[symbol] for symbol in record["species"]]
    return Structure(record["lattice"], species, record["frac_coords"])


def relaxation_to_record(result: RelaxationResult) -> Record:
    """Plain record of a relaxation, its structures in compact form."""
    record = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    record["structure"] = structure_to_record(result.structure)
    record["flags"] = list(result.flags)
    record["asymmetric_unit"] = _unit_to_record(result.asymmetric_unit)
    return plain(record)


def record_to_relaxation(record: Mapping[str, Any]) -> RelaxationResult:
    """Inverse of `relaxation_to_record`."""
    values = dict(record)
    values["structure"] = record_to_structure(values["structure"])
    values["flags"] = tuple(values["flags"])
    values["asymmetric_unit"] = _record_to_unit(values.get("asymmetric_unit"))
    return RelaxationResult(**values)


def candidate_to_record(candidate: Candidate) -> Record:
    """Plain record of a candidate.

    Energies that it carries become labels without a hash; `CandidateStore.set_energy` makes those
    that count as done.
    """
    report = candidate.report
    return plain(
        {
            "id": candidate.id,
            "structure": structure_to_record(candidate.structure),
            "method": candidate.method,
            "seed": candidate.seed,
            "config_hash": candidate.config_hash,
            "package_version": candidate.package_version,
            "asymmetric_unit": _unit_to_record(candidate.asymmetric_unit),
            "report": report.to_dict() if report is not None else None,
            "labels": [dataclasses.asdict(Label(name, "", value)) for name, value in candidate.energies.items()],
            "failures": dict(candidate.failures),
            "relaxations": {key: relaxation_to_record(value) for key, value in candidate.relaxations.items()},
            "versions": {},
            "extra": dict(candidate.extra),
        }
    )


def record_to_candidate(record: Mapping[str, Any]) -> Candidate:
    """Inverse of `candidate_to_record`; of several labels of one potential the newest is shown."""
    energies: dict[str, float] = {}
    failures: dict[str, str] = dict(record["failures"])
    for label in labels_of(record):
        if label.value is not None:
            energies[label.potential] = label.value
    for label in labels_of(record):
        if label.reason is not None and label.potential not in energies:
            failures[label.potential] = label.reason
    report = record["report"]
    return Candidate(
        id=record["id"],
        structure=record_to_structure(record["structure"]),
        method=record["method"],
        seed=record["seed"],
        config_hash=record["config_hash"],
        package_version=record["package_version"],
        asymmetric_unit=_record_to_unit(record["asymmetric_unit"]),
        report=ValidationReport.from_dict(report) if report is not None else None,
        energies=energies,
        failures=failures,
        relaxations={key: record_to_relaxation(value) for key, value in record["relaxations"].items()},
        extra=record["extra"],
    )


def labels_of(record: Mapping[str, Any]) -> tuple[Label, ...]:
    """Labels of a record, oldest first."""
    return tuple(Label(**label) for label in record["labels"])


def put_label(record: Record, label: Label) -> bool:
    """Add a label to a record; False where one of the same potential hash stands already.

    A value replaces an earlier failure, never another value.
    """
    for position, known in enumerate(labels_of(record)):
        if (known.potential, known.potential_hash) == (label.potential, label.potential_hash):
            if known.value is not None or label.value is None:
                return False
            del record["labels"][position]
            break
    record["labels"].append(dataclasses.asdict(label))
    return True


def plain(value: Any) -> Any:
    """Copy in JSON's own types, so that every database gives back what it was given.

    Raises
    ------
    InputError
        Something in it has no JSON form.
    """
    try:
        return json.loads(json.dumps(value, default=_plain_scalar))
    except TypeError as error:
        raise InputError(f"the store keeps numbers, strings, lists and mappings only: {error}") from error


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} {value!r}")


def _unit_to_record(unit: AsymmetricUnit | None) -> Record | None:
    return unit.to_dict() if unit is not None else None


def _record_to_unit(record: Mapping[str, Any] | None) -> AsymmetricUnit | None:
    return AsymmetricUnit.from_dict(record) if record is not None else None
