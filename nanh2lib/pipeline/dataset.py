"""The dataset: different crystals of the random search, labelled, and relaxed twice."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import Executor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.config import DatasetSettings
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.errors import ComputationError
from nanh2lib.execution import WorkUnit, run_units
from nanh2lib.pipeline.labels import energies_of
from nanh2lib.pipeline.refine import final_key, relax_into_store
from nanh2lib.pipeline.run import Run, finished, stage
from nanh2lib.pipeline.search import RANDOM_SEARCH, candidates_of, search_into_store, search_settings
from nanh2lib.ranking import group_duplicates
from nanh2lib.records import Candidate
from nanh2lib.report.dataset import dataset_account
from nanh2lib.search.random_search import SearchSettings
from nanh2lib.settings import processor
from nanh2lib.store.dataset import MANIFEST_FILE, read_manifest, write_dataset

MEMBERS = "dataset_members"


def dataset_search(run: Run) -> SearchSettings:
    """The run's search, asked for as many candidates as the dataset chooses from."""
    return search_settings(run).model_copy(update={"per_setting": run.config.dataset.accepted_per_setting})


def choose_members(run: Run, executor: Executor | None = None) -> list[str]:
    """Search, and take the first different crystals of each setting.

    Returns
    -------
    list of str
        Ids: the first crystal of every setting, then the second of every setting, and so on, so
        that a part of the list is spread like the whole.

    Raises
    ------
    ComputationError
        A setting has fewer different crystals than wanted.
    """

    def work() -> dict[str, Any]:
        search_into_store(run, dataset_search(run))
        accepted = [c for c in candidates_of(run, RANDOM_SEARCH) if c.accepted]
        return {"ids": different_crystals(accepted, run, executor)}

    summary = stage(run, MEMBERS, run.settings_key("search", "validation", "compound", "dataset"), work)
    return [str(identity) for identity in summary["ids"]]


def different_crystals(candidates: Sequence[Candidate], run: Run, executor: Executor | None = None) -> list[str]:
    """Ids of the first ``per_setting`` different crystals of each setting, taken in turn."""
    settings = run.config.dataset
    by_group: dict[int, dict[int, dict[str, Structure]]] = {}
    for candidate in candidates:
        unit = candidate.asymmetric_unit
        if unit is not None:
            setting = by_group.setdefault(unit.space_group_number, {}).setdefault(unit.hall_number, {})
            setting[candidate.id] = candidate.structure
    units = [WorkUnit(str(number), (halls, settings)) for number, halls in by_group.items()]
    results = run_units(
        different_of_group, units, executor, progress=run.progress, description="different crystals, by space group"
    )
    chosen: list[list[str]] = []
    for result in results:
        if not result.succeeded:
            raise ComputationError(f"dataset, space group {result.key}: {result.error}")
        chosen += result.value
    return [identity for place in zip(*chosen, strict=True) for identity in place]


def different_of_group(halls: Mapping[int, Mapping[str, Structure]], settings: DatasetSettings) -> list[list[str]]:
    """Ids of the first different crystals of each setting of one space group.

    Parameters
    ----------
    halls : mapping of Hall number to (mapping of id to Structure)
        Candidates of the group in the order of their draws.
    settings : DatasetSettings

    Raises
    ------
    ComputationError
        A setting has fewer different crystals than wanted.
    """
    taken: list[Structure] = []
    chosen: list[list[str]] = []
    for hall, members in halls.items():
        ids, structures = list(members), list(members.values())
        new = _first_different(structures, taken, settings)
        if len(new) < settings.per_setting:
            raise ComputationError(
                f"dataset: Hall {hall} has {len(new)} different crystals among {len(members)}, "
                f"{settings.per_setting} are wanted; raise dataset.accepted_per_setting or leave the setting out"
            )
        chosen.append([ids[i] for i in new])
        taken += [structures[i] for i in new]
    return chosen


def _first_different(members: Sequence[Structure], others: Sequence[Structure], settings: DatasetSettings) -> list[int]:
    """Indices of the first members that equal neither each other nor one of the others."""
    # The space group was checked by the search, and energies are to play no part.
    rules = settings.duplicates.model_copy(update={"same_space_group": False})
    wanted = settings.per_setting
    size = min(wanted, len(members))
    while True:
        pool = [*others, *members[:size]]
        owner = group_duplicates(pool, [0.0] * len(pool), rules)
        first = len(others)
        new = [i - first for i in range(first, len(pool)) if owner[i] == i]
        if len(new) >= wanted or size == len(members):
            return new[:wanted]
        size = min(len(members), size + 2 * (wanted - len(new)))


def dataset_stage(run: Run, executor: Executor | None = None) -> dict[str, Any]:
    """Choose the entries, label and relax them; a killed run goes on where it was.

    Parameters
    ----------
    run : Run
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.

    Returns
    -------
    dict
        `nanh2lib.report.dataset.dataset_account`.
    """
    settings = run.config.dataset
    ids = choose_members(run, executor)
    entries = members_of(run, ids)
    for potential in settings.potentials:
        energies_of(run, entries, potential, executor)
    units = {c.id: c.asymmetric_unit for c in entries if c.asymmetric_unit is not None}
    relax_into_store(run, units, settings.relaxed_fixed, executor)
    tried: set[str] = set()
    while chosen := _next_full_relaxations(members_of(run, ids), run, tried):
        tried |= {c.id for c in chosen}
        relax_into_store(run, _starts(chosen), settings.relaxed, executor)
    return dataset_account(members_of(run, ids))


def _starts(entries: Sequence[Candidate]) -> dict[str, AsymmetricUnit]:
    """Where full relaxations start; entries whose molecules fused in the fixed cell have no start."""
    fixed = {c.id: c.relaxed_fixed for c in entries if c.relaxed_fixed is not None}
    return {
        identity: result.asymmetric_unit
        for identity, result in fixed.items()
        if result.usable and result.asymmetric_unit is not None
    }


def _next_full_relaxations(entries: Sequence[Candidate], run: Run, tried: Set[str]) -> list[Candidate]:
    """Entries to relax fully: the chosen ones, then others in the place of those that failed.

    A failed one, or one that may not be relaxed further, is replaced by the entry of its setting that
    comes next to it in energy.
    """
    settings = run.config.dataset
    key = final_key(settings.relaxed)
    chosen = spread_over_energies(entries, settings.relaxed_per_setting)
    if tried:
        settled = {c.id for c in entries if key in c.relaxations or key in c.failures} | tried
        chosen = []
        for members in _ordered_by_energy(entries).values():
            usable = [c.relaxed is not None and c.relaxed.usable for c in members]
            failed = [i for i, c in enumerate(members) if c.id in settled and not usable[i]]
            left = [
                (min(abs(i - j) for j in failed), i) for i, c in enumerate(members) if failed and c.id not in settled
            ]
            wanted = max(0, settings.relaxed_per_setting - sum(usable))
            chosen += [members[i] for _, i in sorted(left)[:wanted]]
    return chosen


def members_of(run: Run, ids: Sequence[str] | None = None) -> list[Candidate]:
    """Entries of a dataset with what is known of them so far.

    Raises
    ------
    ComputationError
        The entries have not been chosen yet.
    """
    if ids is None:
        done = finished(run, MEMBERS, run.settings_key("search", "validation", "compound", "dataset"))
        if done is None:
            raise ComputationError(f"{run.directory}: no dataset there yet; run nanh2 dataset build first")
        ids = done["ids"]
    wanted = set(ids)
    found = {c.id: c for c in candidates_of(run, RANDOM_SEARCH) if c.id in wanted}
    return [found[identity] for identity in ids]


def spread_over_energies(entries: Sequence[Candidate], per_setting: int) -> list[Candidate]:
    """Of each setting some entries, evenly spaced in the order of their relaxed energies.

    Entries whose relaxation failed are left out; those whose relaxation may not be used keep their
    place. The list starts with one entry of each setting, so that a part of it is spread like the whole.
    """
    chosen: list[tuple[int, int, Candidate]] = []
    for hall, members in _ordered_by_energy(entries).items():
        count = min(per_setting, len(members))
        places = [round(i * (len(members) - 1) / max(count - 1, 1)) for i in range(count)]
        chosen += [(turn, hall, members[place]) for turn, place in enumerate(_halving(places))]
    return [entry for _, _, entry in sorted(chosen, key=lambda row: row[:2])]


def _ordered_by_energy(entries: Sequence[Candidate]) -> dict[int, list[Candidate]]:
    """Entries with an energy relaxed in the fixed cell, by Hall number, lowest energy first."""
    by_setting: dict[int, list[Candidate]] = {}
    for entry in entries:
        relaxed = entry.relaxed_fixed
        if relaxed is not None and math.isfinite(relaxed.energy_final) and entry.asymmetric_unit is not None:
            by_setting.setdefault(entry.asymmetric_unit.hall_number, []).append(entry)
    for members in by_setting.values():
        members.sort(key=lambda c: (c.relaxed_fixed.energy_final if c.relaxed_fixed else 0.0, c.id))
    return by_setting


def _halving(places: Sequence[int]) -> list[int]:
    """The same places: ends first, then the middles of the gaps, so that every beginning is spread."""
    order = [0, len(places) - 1] if len(places) > 1 else [0] * len(places)
    gaps = [(0, len(places) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return [places[i] for i in order]


def first_principles_sample(entries: Sequence[Candidate], per_setting: int = 5) -> list[tuple[Candidate, str]]:
    """Crystals to compute from first principles: spread over settings, energies and degrees of relaxation.

    Of each setting entries are taken as `spread_over_energies` does; in turn they give their crystal
    as relaxed fully, in the fixed cell, and raw. The smaller the primitive cell, the more of them:
    all of an F lattice, those in the lower half of the turns for other centrings, and one for a
    primitive lattice, each setting from another place of its energies. Small cells come first, so
    that the beginning of the list is the cheap part.

    Returns
    -------
    list of (Candidate, str)
        Entry and frame, one of `nanh2lib.store.dataset.FRAMES`.
    """
    frames = ("relaxed", "relaxed_fixed", "raw")
    with_all = [entry for entry in entries if entry.relaxed is not None and entry.relaxed.usable]
    chosen: list[tuple[int, int, Candidate, str]] = []
    turns: Counter[int] = Counter()
    of_primitive: dict[int, int] = {}
    for entry in spread_over_energies(with_all, per_setting):
        unit = entry.asymmetric_unit
        if unit is None:
            continue
        turn = turns[unit.hall_number]
        turns[unit.hall_number] += 1
        order = unit.template.space_group.centering_order
        if order == 1:
            kept = turn == of_primitive.setdefault(unit.hall_number, len(of_primitive) % per_setting)
        else:
            kept = order == 4 or turn < (per_setting + 1) // 2
        if kept:
            chosen.append((-order, turn, entry, frames[(turn + unit.hall_number) % len(frames)]))
    chosen.sort(key=lambda row: row[:2])
    return [(entry, frame) for _, _, entry, frame in chosen]


def export_dataset(run: Run, path: str | Path) -> dict[str, Any]:
    """Write the entries with a manifest that says how they were made.

    Parameters
    ----------
    run : Run
    path : path
        Name ending in ``.xyz.gz``.

    Returns
    -------
    dict
        The manifest as written.
    """
    entries = members_of(run)
    ids = {entry.id: place for place, entry in enumerate(entries)}
    records = sorted((r for r in run.store.records(method=RANDOM_SEARCH) if r["id"] in ids), key=lambda r: ids[r["id"]])
    manifest = {
        "command": f"nanh2 dataset build --profile {run.config.profile} --seed {run.config.seed}",
        "profile": run.config.profile,
        "seed": run.config.seed,
        "config_hash": run.settings_key("search", "validation", "compound", "dataset"),
        "config": run.config.model_dump(mode="json", include={"search", "validation", "compound", "dataset"}),
        "versions": {name: version(name) for name in ("nanh2lib", "torch", "spglib", "chgnet", "sevenn", "numpy")},
        "processor": processor(),
        "date": datetime.date.today().isoformat(),
        "account": dataset_account(entries),
    }
    write_dataset(records, path, manifest)
    return read_manifest(Path(path).with_name(MANIFEST_FILE))
