"""Energies of the published structures and of alpha: by any potential now, by DFT from a committed file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pymatgen.core import Structure

from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.energy.labels import EnergyResult, LabelSettings, label_structures
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.report.book import project_root
from nanh2lib.report.published import published_structures, reference_structure

ALPHA = "alpha"
COMMITTED = Path("benchmarks", "results", "gpaw_published.json")
"""DFT energies, in the checkout."""
CONVERGENCE = Path("benchmarks", "results", "gpaw_convergence.json")
"""The same for a few crystals at other cutoffs and k-meshes."""
CONVERGED = 1.0
"""meV per formula unit: a height above alpha that changes by less counts as converged."""


def reference_crystals() -> dict[str, Structure]:
    """Alpha and the eight published structures (errata applied), by key."""
    return {ALPHA: reference_structure(ALPHA), **{item.key: item.structure for item in published_structures()}}


def reference_energies(potential: str = "gpaw") -> dict[str, float]:
    """Single-point energies of alpha and the published structures, as they are.

    Parameters
    ----------
    potential : str
        Name of a potential. ``"gpaw"``: the committed energies (PBE), not computed again.

    Returns
    -------
    dict
        eV per formula unit by key; alpha first. Computed once for each process.

    Raises
    ------
    ComputationError
        One of them cannot be computed.
    """
    if potential == "gpaw":
        return dict(committed_dft_energies().energies)
    return dict(_reference_energies(potential))


@lru_cache(maxsize=8)
def _reference_energies(potential: str) -> tuple[tuple[str, float], ...]:
    labels = label_structures(
        reference_crystals(), LabelSettings(potential=potential), compound=SODIUM_AMIDE, progress=False
    )
    found = []
    for key, label in labels.items():
        if not isinstance(label, EnergyResult):
            raise ComputationError(f"{key}: no {potential} energy ({label.reason})")
        found.append((key, label.energy_per_fu))
    return tuple(found)


@dataclass(frozen=True)
class CommittedEnergies:
    """Energies that a script computed earlier and that are kept in the project.

    Attributes
    ----------
    label : str
        Settings, e.g. ``"pw400-k0.4"``: plane waves to 400 eV, k-points 0.4 per A apart.
    energies : mapping
        eV per formula unit by key.
    """

    label: str
    energies: Mapping[str, float]


def committed_dft_energies(path: str | Path | None = None, label: str | None = None) -> CommittedEnergies:
    """Read the GPAW (PBE) energies that ``scripts/gpaw_single_points.py`` wrote.

    Parameters
    ----------
    path : path, optional
        ``benchmarks/results/gpaw_published.json`` of the checkout by default.
    label : str, optional
        Settings; by default those with the most structures.

    Raises
    ------
    InputError
        The file is missing or of another form, or has no energy with these settings.
    """
    path = project_root() / COMMITTED if path is None else Path(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        counts = Counter(name for entry in rows.values() for name in entry)
        chosen = label or max(sorted(counts), key=lambda name: counts[name])
        energies = {key: float(entry[chosen]["ev_per_fu"]) for key, entry in rows.items() if chosen in entry}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a table of DFT energies ({error!r}); restore the committed file") from error
    if not energies:
        raise InputError(f"{path}: no energies with the settings {label!r}; there are: {', '.join(sorted(counts))}")
    order = {key: place for place, key in enumerate(reference_crystals())}
    return CommittedEnergies(chosen, dict(sorted(energies.items(), key=lambda pair: order.get(pair[0], len(order)))))


def convergence_table(path: str | Path | None = None) -> dict[str, dict[str, float | None]]:
    """How first-principles energies change with cutoff and k-mesh.

    Parameters
    ----------
    path : path, optional
        What ``scripts/gpaw_single_points.py convergence`` wrote; default: the checkout's.

    Returns
    -------
    dict
        By settings, e.g. ``"400 eV, 0.4 per A"``: energy of alpha (eV per formula unit) and of the
        others above it (meV per formula unit), by key; None where it was not computed. Empty where
        there is no file.

    Raises
    ------
    InputError
        The file is of another form.
    """
    path = project_root() / CONVERGENCE if path is None else Path(path)
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found: dict[tuple[float, float], dict[str, float]] = {}
        for key, ladder in rows.items():
            for row in ladder.values():
                if "ev_per_fu" in row:
                    settings = -float(row["settings"]["k_spacing"]), float(row["settings"]["cutoff"])
                    found.setdefault(settings, {})[key] = float(row["ev_per_fu"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a table of DFT energies ({error!r}); restore the committed file") from error
    others = [key for key in rows if key != ALPHA]
    table: dict[str, dict[str, float | None]] = {}
    for (spacing, cutoff), energies in sorted(found.items()):
        zero = energies.get(ALPHA)
        table[f"{cutoff:g} eV, {-spacing:g} per A"] = {
            "alpha, eV": zero,
            **{k: None if zero is None or k not in energies else 1000 * (energies[k] - zero) for k in others},
        }
    return table


def convergence_summary(path: str | Path | None = None) -> dict[str, dict[str, float | str]]:
    """How far heights above alpha are converged with the cutoff and the k-mesh.

    Parameters
    ----------
    path : path, optional
        As for `convergence_table`.

    Returns
    -------
    dict
        By crystal, in meV per formula unit: its height at the lowest cutoff and coarsest mesh (those of
        the committed energies) and at the highest cutoff; what the last step up in cutoff and the finer
        mesh, at the highest cutoff that has both, changed; and whether the first height lies within
        `CONVERGED` of the second, and the second's steps are that small. NaN and ``"unknown"`` where an
        energy is missing. Empty where there is no file.

    Raises
    ------
    InputError
        As for `convergence_table`.
    """
    table = convergence_table(path)
    keys = list(dict.fromkeys(key for row in table.values() for key in row if not key.startswith(ALPHA)))
    return {key: _convergence_of({name: row[key] for name, row in table.items()}) for key in keys}


def _convergence_of(heights: Mapping[str, float | None]) -> dict[str, float | str]:
    found = {
        (float(name.split(" eV, ")[0]), float(name.split(" eV, ")[1].removesuffix(" per A"))): height
        for name, height in heights.items()
        if height is not None
    }
    coarse = max((spacing for _, spacing in found), default=0.0)
    by_cutoff = {cutoff: height for (cutoff, spacing), height in sorted(found.items()) if spacing == coarse}
    rising = list(by_cutoff.values()) or [math.nan]
    step = rising[-1] - rising[-2] if len(rising) > 1 else math.nan
    meshes = {
        cutoff: found[cutoff, finer] - by_cutoff[cutoff]
        for cutoff, finer in sorted(found)
        if finer < coarse and cutoff in by_cutoff
    }
    by_mesh = meshes[max(meshes)] if meshes else math.nan
    return {
        "lowest cutoff": rising[0],
        "highest cutoff": rising[-1],
        "last step of the cutoff": step,
        "finer mesh": by_mesh,
        "first converged": _converged(rising[-1] - rising[0] if len(rising) > 1 else math.nan),
        "second converged": _converged(step, by_mesh),
    }


def _converged(*changes: float) -> str:
    if any(math.isnan(change) for change in changes):
        return "unknown"
    return "yes" if max(map(abs, changes)) < CONVERGED else "no"


def above(energies: Mapping[str, float], zero: str = ALPHA) -> dict[str, float]:
    """Energies in meV above one of them.

    Raises
    ------
    InputError
        There is no such entry.
    """
    if zero not in energies:
        raise InputError(f"no energy of {zero!r}; there are: {', '.join(energies)}")
    return {key: 1000 * (energy - energies[zero]) for key, energy in energies.items()}
