"""Crystals with energies that the paper's model learns from, and which of them are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.pipeline.geometric_data import check_compound, named_entries, relaxed_crystals
from nanh2lib.pipeline.run import Run, read_json, write_json
from nanh2lib.pipeline.search import RANDOM_SEARCH, candidates_of, compound_of
from nanh2lib.ranking import DuplicateSettings
from nanh2lib.ranking.duplicates import connected_groups
from nanh2lib.records import Candidate
from nanh2lib.settings import config_hash


@dataclass(frozen=True)
class LabelledCrystal:
    """A crystal with its energy.

    Attributes
    ----------
    id : str
    structure : Structure
    energy : float
        eV per formula unit, of this structure.
    evaluations : int
        Energy calls that crystal and energy took.
    """

    id: str
    structure: Structure
    energy: float
    evaluations: int


def labelled_crystals(run: Run) -> list[LabelledCrystal]:
    """Crystals that the section ``training`` names, with energies at the run's labelling potential.

    Raises
    ------
    InputError
        A dataset of another compound, or without such crystals or energies.
    """
    settings, potential = run.config.training, run.config.label.potential
    if settings.dataset is None:
        return _labelled((c for c in candidates_of(run, RANDOM_SEARCH) if c.accepted), potential)
    entries = [entry for entry in named_entries(settings.dataset) if entry.accepted]
    check_compound(entries, compound_of(run), settings.dataset)
    if settings.structures == "generated":
        crystals = _labelled(entries, potential)
        known = {name for entry in entries for name in entry.energies}
    else:
        relaxed = relaxed_crystals(entries)
        crystals = [
            LabelledCrystal(c.id, c.structure, c.result.energy_final, c.result.evaluations)
            for c in relaxed
            if c.result.potential == potential
        ]
        known = {c.result.potential for c in relaxed}
    if not crystals:
        raise InputError(
            f"training.dataset = {settings.dataset!r}: no crystal of kind {settings.structures!r} has an energy at "
            f"{potential!r}; set label.potential to one of {', '.join(sorted(known)) or 'none (nothing is labelled)'}"
        )
    return crystals


def _labelled(candidates: Iterable[Candidate], potential: str) -> list[LabelledCrystal]:
    return [LabelledCrystal(c.id, c.structure, c.energies[potential], 1) for c in candidates if potential in c.energies]


def equal_crystals(run: Run, crystals: Sequence[LabelledCrystal], settings: DuplicateSettings) -> tuple[int, ...]:
    """Number of each crystal's group of equal ones; kept in the run's folder, for it takes minutes.

    Chains count: of two crystals that equal a third all three share a group, so that a split by
    groups leaves no crystal of one side equal to one of the other.
    """
    digest = hashlib.sha256(config_hash(settings).encode())
    for crystal in crystals:
        digest.update(f"{crystal.id} {crystal.energy!r}".encode())
        digest.update(crystal.structure.frac_coords.tobytes() + crystal.structure.lattice.matrix.tobytes())
    path = run.directory / "models" / f"equal-{digest.hexdigest()[:16]}.json"
    if not path.exists():
        groups = connected_groups([c.structure for c in crystals], [c.energy for c in crystals], settings)
        write_json(run.path("models", path.name), groups)
    return tuple(int(number) for number in read_json(path))
