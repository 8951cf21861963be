"""Relaxed crystals of the study in one small file: positions and turns of units, not lists of atoms.

A crystal of 64 atoms takes some 500 bytes here, an eighth of its extended XYZ. Numbers are single precision
(positions to 1e-6 A); energies are those of the relaxations.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import expand, project
from nanh2lib.errors import InputError
from nanh2lib.files import write_atomically
from nanh2lib.geometry.rotations import matrix_to_rotation_vector, rotation_vector_to_matrix
from nanh2lib.records import Candidate, RelaxationResult

_RESULT = (
    "stage", "potential", "energy_start", "energy_final", "evaluations", "converged", "space_group_before",
    "space_group_after", "flags", "fmax", "max_stress",
)  # fmt: skip
BATCH = 256
_CANDIDATE = ("id", "method", "seed", "config_hash", "package_version", "extra")


@dataclass(frozen=True)
class _Columns:
    """Units of crystals end to end, as single precision."""

    cells: NDArray[np.float32]
    origins: NDArray[np.float32]
    turns: NDArray[np.float32]

    @classmethod
    def of(cls, units: Iterable[AsymmetricUnit]) -> _Columns:
        parts = [(u.lattice_parameters[0], u.frac_origins[0], matrix_to_rotation_vector(u.rotations[0])) for u in units]
        widths = (6, 3, 3)
        columns = [torch.cat([part[k].reshape(-1, widths[k]) for part in parts]) for k in range(3)]
        return cls(*(column.to(torch.float32).numpy() for column in columns))

    def units(self, rows: Sequence[int], starts: Sequence[int], template: Template) -> AsymmetricUnit:
        """Batch of crystals on one template, whose units begin at ``starts``; put exactly on its sites."""
        places = np.asarray(starts)[:, None] + np.arange(template.n_units)
        cells, origins, turns = (
            torch.from_numpy(part).to(torch.float64)
            for part in (self.cells[list(rows)], self.origins[places], self.turns[places])
        )
        return project(AsymmetricUnit(template, cells, origins, rotation_vector_to_matrix(turns)))


def write_crystals(path: Path, candidates: Iterable[Candidate]) -> int:
    """Write candidates that are relaxed with rigid units in the fixed cell; others are left out.

    Parameters
    ----------
    path : Path
        ``.npz``; written whole or not at all.
    candidates : iterable of Candidate

    Returns
    -------
    int
        Crystals written.
    """
    raw, relaxed, about, templates = [], [], [], dict[str, int]()
    for candidate in candidates:
        result = candidate.relaxed_fixed
        if result is None or result.asymmetric_unit is None or candidate.asymmetric_unit is None:
            continue
        template = json.dumps(candidate.asymmetric_unit.template.to_dict(), sort_keys=True)
        raw.append(candidate.asymmetric_unit)
        relaxed.append(result.asymmetric_unit)
        about.append(
            {
                **{name: getattr(candidate, name) for name in _CANDIDATE},
                "template": templates.setdefault(template, len(templates)),
                "result": {name: _plain(getattr(result, name)) for name in _RESULT},
            }
        )
    if not about:
        return 0
    text = json.dumps({"templates": [json.loads(template) for template in templates], "crystals": about})
    columns = {"about": np.frombuffer(text.encode(), dtype=np.uint8)}
    for name, units in (("raw", raw), ("relaxed", relaxed)):
        columns |= {f"{name}_{key}": values for key, values in vars(_Columns.of(units)).items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **columns)
    write_atomically(path, stream.getvalue())
    return len(about)


def _plain(value: Any) -> Any:
    """For JSON, which knows neither NaN nor tuples."""
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and value != value else value


def read_crystals(path: Path) -> Iterator[Candidate]:
    """Candidates with their relaxations, template by template.

    Raises
    ------
    InputError
        The file is not one of ours, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = dict(stored)
        about = json.loads(columns["about"].tobytes())
        templates = [Template.from_dict(template) for template in about["templates"]]
        raw, relaxed = (
            _Columns(*(columns[f"{name}_{key}"] for key in ("cells", "origins", "turns")))
            for name in ("raw", "relaxed")
        )
        numbers = [int(row["template"]) for row in about["crystals"]]
        units = sum(templates[number].n_units for number in numbers)
        for part in (raw, relaxed):
            shapes = ((len(numbers), 6), (units, 3), (units, 3))
            if tuple(values.shape for values in vars(part).values()) != shapes:
                raise ValueError(f"arrays do not belong to {len(numbers)} crystals")
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no file of the study's crystals, or damaged ({error}); restore it") from error
    return _candidates(about["crystals"], templates, raw, relaxed)


def _candidates(
    rows: list[dict[str, Any]], templates: list[Template], raw: _Columns, relaxed: _Columns
) -> Iterator[Candidate]:
    starts = np.cumsum([0, *(templates[row["template"]].n_units for row in rows)])
    for number, template in enumerate(templates):
        chosen = [place for place, row in enumerate(rows) if row["template"] == number]
        for first in range(0, len(chosen), BATCH):
            part = chosen[first : first + BATCH]
            before, after = (columns.units(part, starts[part].tolist(), template) for columns in (raw, relaxed))
            crystals = zip(part, expand(before), expand(after), strict=True)
            for k, (place, generated, ended) in enumerate(crystals):
                yield _candidate(rows[place], before[k], generated, after[k], ended)


def _candidate(
    row: Mapping[str, Any], before: AsymmetricUnit, generated: Structure, after: AsymmetricUnit, ended: Structure
) -> Candidate:
    told = {name: float("nan") if value is None else value for name, value in row["result"].items()}
    result = RelaxationResult(**{**told, "flags": tuple(told["flags"])}, structure=ended, asymmetric_unit=after)
    return Candidate(
        **{name: row[name] for name in _CANDIDATE},
        structure=generated,
        asymmetric_unit=before,
        relaxations={f"{result.stage}:{result.potential}": result},
    )
