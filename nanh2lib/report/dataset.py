"""A dataset in numbers: what it holds, what failed, how far its potentials agree with first principles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.stats import kendalltau, spearmanr

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.crystal.space_group import setting_labels
from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.energy.labels import EnergyResult, formula_units, label_structures
from nanh2lib.errors import InputError
from nanh2lib.ranking import matches
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.report.reference_energies import ALPHA, reference_energies
from nanh2lib.store.dataset import FRAMES, frame_structure
from nanh2lib.validation.contacts import shortest_contacts

FloatArray = NDArray[np.float64]


def dataset_account(entries: Sequence[Candidate]) -> dict[str, Any]:
    """What a dataset holds, its failures with their reasons among it.

    Parameters
    ----------
    entries : sequence of Candidate

    Returns
    -------
    dict
        Entries by setting, labels by potential, relaxations with their convergence and calls,
        failures by reason.
    """
    labels = Counter(name for entry in entries for name in entry.energies)
    reasons = Counter(f"{name}: {reason}" for entry in entries for name, reason in entry.failures.items())
    return {
        "entries": len(entries),
        "space_groups": len({entry.space_group_number for entry in entries}),
        "settings": setting_counts(entries),
        "labels": dict(sorted(labels.items())),
        "relaxed_fixed": _account([entry.relaxed_fixed for entry in entries]),
        "relaxed": _account([entry.relaxed for entry in entries]),
        "failures": dict(reasons),
    }


def setting_counts(entries: Sequence[Candidate]) -> dict[str, int]:
    """Entries of each space-group setting, by label (see `setting_labels`), in order of the Hall number."""
    counts = Counter(entry.asymmetric_unit.hall_number for entry in entries if entry.asymmetric_unit is not None)
    labels = setting_labels(list(counts))
    return {labels[hall]: counts[hall] for hall in sorted(counts)}


def _account(results: Sequence[RelaxationResult | None]) -> dict[str, Any]:
    done = [result for result in results if result is not None]
    return {
        "done": len(done),
        "potential": ", ".join(sorted({result.potential for result in done})),
        "converged": sum(result.converged for result in done),
        "usable": sum(result.usable for result in done),
        "flags": dict(Counter(flag for result in done for flag in result.flags)),
    }


@dataclass(frozen=True)
class Agreement:
    """How a potential's energies compare with reference energies of the same crystals.

    Attributes
    ----------
    potential : str
    count : int
        Crystals compared.
    offset : float
        Mean difference, eV per formula unit: no meaning across potentials with different zeros.
    mean_absolute, root_mean_square : float
        Of the differences after the offset is taken away, eV per formula unit.
    spearman, kendall : float
        Rank correlations.
    """

    potential: str
    count: int
    offset: float
    mean_absolute: float
    root_mean_square: float
    spearman: float
    kendall: float


def agreement(potential: str, energies: Mapping[str, float], reference: Mapping[str, float]) -> Agreement:
    """Compare energies with reference energies over the keys that both have.

    Raises
    ------
    InputError
        Fewer than three crystals are common.
    """
    keys = sorted(set(energies) & set(reference))
    if len(keys) < 3:
        raise InputError(f"{potential}: {len(keys)} crystals have both energies; a comparison needs 3 or more")
    ours = np.array([energies[key] for key in keys])
    theirs = np.array([reference[key] for key in keys])
    difference = ours - theirs
    offset = float(difference.mean())
    rest = difference - offset
    return Agreement(
        potential,
        len(keys),
        offset,
        float(np.abs(rest).mean()),
        math.sqrt(float((rest**2).mean())),
        float(spearmanr(ours, theirs).statistic),
        float(kendalltau(ours, theirs).statistic),
    )


@dataclass(frozen=True)
class LinearCorrection:
    """``reference ~ slope * energy + intercept``, judged on crystals that it was not fitted to.

    Attributes
    ----------
    slope, intercept : float
        Least squares over all crystals; intercept in eV per formula unit.
    error_before, error_after : float
        Leave-one-out mean absolute error (eV per formula unit) of a shift alone and of the line.
    """

    slope: float
    intercept: float
    error_before: float
    error_after: float

    @property
    def helps(self) -> bool:
        """Whether the line beats the shift on crystals that it has not seen."""
        return self.error_after < self.error_before


def linear_correction(energies: FloatArray, reference: FloatArray) -> LinearCorrection:
    """Fit a line from a potential's energies to reference energies, cross-validated by leaving one out.

    Parameters
    ----------
    energies, reference : ndarray, shape (N,)
        eV per formula unit, N >= 4.

    Raises
    ------
    InputError
        Fewer than four points.
    """
    if len(energies) < 4 or len(energies) != len(reference):
        raise InputError(f"a correction needs four or more pairs of energies, got {len(energies)}, {len(reference)}")
    shifted, lined = [], []
    for i in range(len(energies)):
        rest = np.arange(len(energies)) != i
        slope, intercept = np.polyfit(energies[rest], reference[rest], 1)
        shifted.append(abs(energies[i] + (reference[rest] - energies[rest]).mean() - reference[i]))
        lined.append(abs(slope * energies[i] + intercept - reference[i]))
    slope, intercept = np.polyfit(energies, reference, 1)
    return LinearCorrection(float(slope), float(intercept), float(np.mean(shifted)), float(np.mean(lined)))


def energies_above_alpha(entries: Sequence[Candidate]) -> dict[str, FloatArray]:
    """Energies before and after the two relaxations, each above alpha at its own potential.

    Parameters
    ----------
    entries : sequence of Candidate

    Returns
    -------
    dict
        meV per formula unit (n,) for "as found", "rigid, fixed cell" and "all atoms and cell", with
        the potential in the name; unusable relaxations are left out.
    """
    found: dict[str, list[float]] = {}
    for entry in entries:
        fixed, relaxed = entry.relaxed_fixed, entry.relaxed
        if fixed is None:
            continue
        zero = 1000 * reference_energies(fixed.potential)[ALPHA]
        if fixed.potential in entry.energies:
            raw = 1000 * entry.energies[fixed.potential] - zero
            found.setdefault(f"as found ({fixed.potential})", []).append(raw)
        if not fixed.usable:
            continue
        found.setdefault(f"rigid, fixed cell ({fixed.potential})", []).append(1000 * fixed.energy_final - zero)
        if relaxed is not None and relaxed.usable:
            above = 1000 * (relaxed.energy_final - reference_energies(relaxed.potential)[ALPHA])
            found.setdefault(f"all atoms and cell ({relaxed.potential})", []).append(above)
    return {name: np.array(values) for name, values in found.items()}


def volumes_and_energies(entries: Sequence[Candidate]) -> tuple[FloatArray, FloatArray]:
    """Volume (A^3) and energy above alpha (meV), both per formula unit, of the fully relaxed entries."""
    done = [e.relaxed for e in entries if e.relaxed is not None and e.relaxed.usable]
    volumes = [result.structure.volume / formula_units(result.structure) for result in done]
    energies = [1000 * (result.energy_final - reference_energies(result.potential)[ALPHA]) for result in done]
    return np.array(volumes), np.array(energies)


def closest_contacts(units: Sequence[AsymmetricUnit], cutoff: float = 6.0) -> dict[str, FloatArray]:
    """Shortest distance of each element pair between different units, A.

    Parameters
    ----------
    units : sequence of AsymmetricUnit
        Batches of one, whatever their templates.
    cutoff : float
        A; crystals without such a contact up to here are left out of their pair.

    Returns
    -------
    dict
        Distances (n,) by pair, e.g. ``"Na-N"``.
    """
    alike: dict[Template, list[AsymmetricUnit]] = {}
    for unit in units:
        alike.setdefault(unit.template, []).append(unit)
    found: dict[str, list[FloatArray]] = {}
    for members in alike.values():
        table = shortest_contacts(AsymmetricUnit.cat(members), cutoff=cutoff)
        for (one, two), distances in zip(table.pairs, table.distances.T.numpy(), strict=True):
            found.setdefault(f"{one}-{two}", []).append(distances[np.isfinite(distances)])
    return {pair: np.concatenate(values) for pair, values in found.items()}


def entries_that_are(entries: Sequence[Candidate], structure: Structure, window: float = 0.03) -> list[Candidate]:
    """Entries whose relaxation in the fixed cell ended in a known crystal.

    Parameters
    ----------
    entries : sequence of Candidate
    structure : Structure
        StructureMatcher decides, hydrogens included, volumes not rescaled (0.2, 0.2, 5 degrees).
    window : float
        Energies further than this from alpha (eV per formula unit) are not compared.
    """
    found = []
    for entry in entries:
        fixed = entry.relaxed_fixed
        if fixed is None or not fixed.usable:
            continue
        if abs(fixed.energy_final - reference_energies(fixed.potential)[ALPHA]) <= window and (
            matches(fixed.structure, structure) is not None
        ):
            found.append(entry)
    return found


def first_principles_comparison(
    entries: Sequence[Candidate], reference: Mapping[tuple[str, str], float], potentials: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Energies of the very same crystals by first principles and by potentials.

    Parameters
    ----------
    entries : sequence of Candidate
    reference : mapping
        First-principles energies, eV per formula unit by (frame, id): `nanh2lib.store.dataset.gpaw_energies`.
    potentials : sequence of str
        Evaluated now, on the same geometry.

    Returns
    -------
    dict
        eV per formula unit by ``"id/frame"``, for ``"gpaw"`` and each potential.
    """
    crystals = {
        f"{entry.id}/{frame}": frame_structure(entry, frame)
        for entry in entries
        for frame in FRAMES
        if (frame, entry.id) in reference
    }
    compared = {"gpaw": {key: reference[key.split("/")[1], key.split("/")[0]] for key in crystals}}
    for potential in potentials:
        labels = label_structures(crystals, potential, compound=SODIUM_AMIDE, progress=False)
        compared[potential] = {
            key: label.energy_per_fu for key, label in labels.items() if isinstance(label, EnergyResult)
        }
    return compared


def first_principles_account(
    entries: Sequence[Candidate], reference: Mapping[tuple[str, str], float]
) -> dict[str, dict[str, int]]:
    """How many crystals have first-principles energies, by setting and by how far they were relaxed.

    Parameters
    ----------
    entries : sequence of Candidate
    reference : mapping
        As for `first_principles_comparison`.

    Returns
    -------
    dict
        Numbers by frame (one of `nanh2lib.store.dataset.FRAMES`, and ``"together"``) for each
        setting that has any, by its label, and for ``"all settings"``.
    """
    counts = {frame: setting_counts([e for e in entries if (frame, e.id) in reference]) for frame in FRAMES}
    labels = [label for label in setting_counts(entries) if any(label in counts[frame] for frame in FRAMES)]
    table = {label: {frame: counts[frame].get(label, 0) for frame in FRAMES} for label in labels}
    table["all settings"] = {frame: sum(counts[frame].values()) for frame in FRAMES}
    return {label: {**row, "together": sum(row.values())} for label, row in table.items()}


def crystals_below(
    entries: Sequence[Candidate],
    reference: Mapping[tuple[str, str], float],
    structure: Structure,
    zero: float,
    symprec: float = 0.05,
) -> dict[str, dict[str, Any]]:
    """Crystals whose first-principles energy lies below that of a known one, and whether they are that one.

    Parameters
    ----------
    entries : sequence of Candidate
    reference : mapping
        As for `first_principles_comparison`.
    structure : Structure
        The known crystal; `nanh2lib.ranking.matches` decides, volumes not rescaled.
    zero : float
        Its energy by the same first principles, eV per formula unit.
    symprec : float
        A, for the space group that is found.

    Returns
    -------
    dict
        By id, shortened, and frame, lowest first: meV per formula unit below, volume (A^3 per formula
        unit), setting of the search, space group found, and the match's displacement (None: no match).
    """
    by_id = {entry.id: entry for entry in entries}
    rows = {}
    for (frame, identity), energy in sorted(reference.items(), key=lambda item: item[1]):
        if energy < zero and identity in by_id:
            crystal = frame_structure(by_id[identity], frame)
            found = symmetry_dataset(crystal, symprec)
            rows[f"{identity[:6]}, {frame}"] = {
                "below": 1000 * (zero - energy),
                "volume": crystal.volume / formula_units(crystal),
                "setting": next(iter(setting_counts([by_id[identity]])), "none"),
                "space group": None if found is None else found.international,
                "displacement": matches(crystal, structure),
            }
    return rows


def agreement_by_frame(
    potential: str, energies: Mapping[str, float], reference: Mapping[str, float]
) -> dict[str, Agreement]:
    """Agreement over all crystals, and over those of each frame that has three or more.

    Parameters
    ----------
    potential : str
    energies, reference : mapping
        eV per formula unit by ``"id/frame"``, from `first_principles_comparison`.

    Returns
    -------
    dict
        By ``"all"`` and frame; each takes away a shift of its own.
    """
    found = {"all": agreement(potential, energies, reference)}
    for frame in FRAMES:
        keys = {key for key in energies if key in reference and key.endswith(f"/{frame}")}
        if len(keys) >= 3:
            found[frame] = agreement(potential, {key: energies[key] for key in keys}, reference)
    return found


def heights(reference: Mapping[tuple[str, str], float], zero: float) -> dict[str, float]:
    """Energies above a zero, meV per formula unit, by the names that `crystals_below` gives.

    Parameters
    ----------
    reference : mapping
        eV per formula unit by (frame, id).
    zero : float
        eV per formula unit.
    """
    return {f"{identity[:6]}, {frame}": 1000 * (energy - zero) for (frame, identity), energy in reference.items()}
