"""Plain frozen records that the stages hand on: reports, relaxations, candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit


@dataclass(frozen=True)
class Check:
    """One measured property against its limit.

    Attributes
    ----------
    name : str
        What was measured, e.g. ``"contacts"``, ``"symmetry"``, ``"fragments"``.
    passed : bool
        False also when the property could not be measured (fail closed).
    measured, limit : str
        Value found and value asked for, with units.
    detail : str
        Which atoms, pair or operation it concerns.
    """

    name: str
    passed: bool
    measured: str = ""
    limit: str = ""
    detail: str = ""


@dataclass(frozen=True)
class ValidationReport:
    """All checks of one structure; passes only when every check passes and there is one.

    Attributes
    ----------
    checks : tuple of Check
        In the order in which they were made.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The failed checks in one line, empty when the report passes."""
        if not self.checks:
            return "no check was made"
        failed = [c for c in self.checks if not c.passed]
        return "; ".join(f"{c.name}: {c.measured} (limit {c.limit}) {c.detail}".strip() for c in failed)

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ValidationReport:
        return cls(tuple(Check(**check) for check in data["checks"]))


@dataclass(frozen=True)
class RelaxationResult:
    """A relaxation: where it ended, what it cost, and whether it may be ranked.

    Attributes
    ----------
    structure : Structure
        Final crystal.
    stage : str
        ``"rigid_fixed"``, ``"rigid"``, ``"all_atom"`` or ``"released"``.
    potential : str
        Name of the potential.
    energy_start, energy_final : float
        eV per formula unit.
    evaluations : int
        Energy-and-gradient calls.
    converged : bool
        fmax and stress below their limits.
    space_group_before, space_group_after : int
        International numbers at symprec 1e-2.
    flags : tuple of str
        Why it must not be ranked silently: ``"broken_fragment"``, ``"symmetry_lost"``,
        ``"exploded"``, ``"nan_energy"``; ``"symmetry_gained"`` is information only.
    fmax : float
        Largest force on an atom at the end, eV/A.
    max_stress : float
        Largest stress component at the end, GPa.
    """

    structure: Structure
    stage: str
    potential: str
    energy_start: float
    energy_final: float
    evaluations: int
    converged: bool
    space_group_before: int
    space_group_after: int
    flags: tuple[str, ...] = ()
    fmax: float = float("nan")
    max_stress: float = float("nan")
    asymmetric_unit: AsymmetricUnit | None = None

    BAD_FLAGS = ("broken_fragment", "symmetry_lost", "exploded", "nan_energy")

    @property
    def usable(self) -> bool:
        return not any(flag in self.BAD_FLAGS for flag in self.flags)

    def to_dict(self) -> dict[str, Any]:
        data = {key: None if value != value else value for key, value in self.__dict__.items()}
        data["structure"] = self.structure.as_dict()
        data["flags"] = list(self.flags)
        data["asymmetric_unit"] = self.asymmetric_unit.to_dict() if self.asymmetric_unit else None
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RelaxationResult:
        values = dict(data)
        for name in ("energy_start", "energy_final", "fmax", "max_stress"):
            values[name] = float("nan") if values.get(name) is None else values[name]
        values["structure"] = Structure.from_dict(values["structure"])
        values["flags"] = tuple(values["flags"])
        unit = values.get("asymmetric_unit")
        values["asymmetric_unit"] = AsymmetricUnit.from_dict(unit) if unit else None
        return cls(**values)


@dataclass(frozen=True)
class Candidate:
    """One row of the store: a crystal, where it came from, and what is known of it.

    Attributes
    ----------
    id : str
        Stable key: a hash of method, seed, config and place in the run.
    structure : Structure
        Full crystal.
    method : str
        ``"random_search"``, ``"paper"``, ``"geometric"``, ``"published"``, ``"reference"``.
    seed : int
        Seed of the run that made it.
    config_hash : str
        Hash of the settings of the stage that made it.
    package_version : str
        Version of nanh2lib.
    asymmetric_unit : AsymmetricUnit or None
        Batch of one.
    report : ValidationReport or None
        Rejected candidates stay, with their report.
    energies : mapping
        eV per formula unit of the unrelaxed structure, by potential name.
    failures : mapping
        Reason by potential name or stage, where a number could not be computed.
    relaxations : mapping
        By ``"stage:potential"``.
    """

    id: str
    structure: Structure
    method: str
    seed: int
    config_hash: str
    package_version: str
    asymmetric_unit: AsymmetricUnit | None = None
    report: ValidationReport | None = None
    energies: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    relaxations: Mapping[str, RelaxationResult] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """True where a report exists and passes."""
        return self.report is not None and self.report.passed

    @property
    def space_group_number(self) -> int | None:
        unit = self.asymmetric_unit
        return unit.space_group_number if unit is not None else None

    @property
    def relaxed_fixed(self) -> RelaxationResult | None:
        """The relaxation of rigid units in the fixed cell (of several potentials the last written)."""
        return self._relaxed("rigid_fixed")

    @property
    def relaxed(self) -> RelaxationResult | None:
        """The relaxation of all atoms with the space group kept (of several potentials the last written)."""
        return self._relaxed("all_atom")

    def _relaxed(self, stage: str) -> RelaxationResult | None:
        found = [result for result in self.relaxations.values() if result.stage == stage]
        return found[-1] if found else None

    def replace(self, **changes: Any) -> Candidate:
        return replace(self, **changes)
