"""What the geometric model learns from: relaxed crystals of a run, held-out ones taken out, duplicates known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pymatgen.core import Structure
from torch import Tensor

from nanh2lib.config import GeometricRunSettings, HeldOutSettings, RunConfig
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.pipeline.dataset import MEMBERS, members_of
from nanh2lib.pipeline.refine import final_key
from nanh2lib.pipeline.run import CONFIG_FILE, Run, finished, read_json, write_json
from nanh2lib.pipeline.search import RANDOM_SEARCH, candidates_of, compound_of
from nanh2lib.ranking import DuplicateSettings
from nanh2lib.ranking.duplicates import connected_groups
from nanh2lib.ranking.library import CrystalLibrary
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.relaxation.batch import relax_many
from nanh2lib.report.published import reference_structure
from nanh2lib.settings import config_hash
from nanh2lib.store.dataset import load_dataset


@dataclass(frozen=True)
class GeometricTrainingSet:
    """Crystals with energies, as the geometric model wants them.

    Attributes
    ----------
    ids : tuple of str, length N
        Candidates in the store.
    units : tuple of AsymmetricUnit, length N
        Batches of one.
    structures : tuple of Structure, length N
    energies : Tensor, shape (N,)
        eV per formula unit at the relaxing potential.
    groups : tuple of int, length N
        Equal crystals share a number.
    evaluations : int
        Energy calls that the relaxations took: what the model is charged.
    left_out : int
        Crystals withheld because the model is to be judged by finding such.
    """

    ids: tuple[str, ...]
    units: tuple[AsymmetricUnit, ...]
    structures: tuple[Structure, ...]
    energies: Tensor
    groups: tuple[int, ...]
    evaluations: int
    left_out: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> str:
        """Hash of the data."""
        digest = hashlib.sha256("".join(self.ids).encode())
        digest.update(self.energies.numpy().tobytes())
        for unit in self.units:
            digest.update(unit.frac_origins.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def weights(self, temperature: float | None) -> Tensor | None:
        """Weights (N,), mean 1, that fall with the energy; None for equal ones."""
        if temperature is None:
            return None
        logarithm = -(self.energies - self.energies.mean()) / temperature
        weight = torch.softmax(logarithm, 0) * len(self)
        return weight.to(torch.float32)


@dataclass(frozen=True)
class RelaxedCrystal:
    """An entry of a dataset with a usable relaxation of rigid units in the fixed cell.

    Attributes
    ----------
    id : str
    result : RelaxationResult
    unit : AsymmetricUnit
        What is learned from: the relaxed crystal, or the raw one.
    structure : Structure
        The same in full.
    """

    id: str
    result: RelaxationResult
    unit: AsymmetricUnit
    structure: Structure


SHIPPED = "shipped"
"""Names the dataset of the package where a folder may be named."""


def learned_entries(run: Run, settings: GeometricRunSettings) -> list[Candidate]:
    """Entries that the settings name: of the package's dataset, of a folder's, or of the run's own."""
    if settings.dataset is None:
        return dataset_entries(run)
    entries = named_entries(settings.dataset)
    check_compound(entries, compound_of(run), settings.dataset)
    return entries


def check_compound(entries: Sequence[Candidate], compound: Compound, dataset: str | Path) -> None:
    """Whether a dataset is about a compound, judged by its first entry.

    Raises
    ------
    InputError
        It holds crystals of another one.
    """
    found = entries[0].structure.composition if entries else compound.composition
    if found.reduced_composition != compound.composition.reduced_composition:
        raise InputError(
            f"dataset {str(dataset)!r} holds crystals of {found.reduced_formula}, but this run is about "
            f"{compound.name}; name a dataset of {compound.name}, or none to learn from the run's own crystals"
        )


def named_entries(dataset: str | Path) -> list[Candidate]:
    """Entries of the package's dataset (``"shipped"``) or of the one in a run's folder.

    Raises
    ------
    InputError
        The folder holds no run.
    """
    return list(load_dataset()) if str(dataset) == SHIPPED else dataset_entries(recorded_run(dataset))


def recorded_run(directory: str | Path) -> Run:
    """A finished or running run with the configuration that it was begun with; only to read from."""
    record = Path(directory) / CONFIG_FILE
    return Run(Path(directory), RunConfig.from_mapping(read_json(record), str(record)), progress=False)


def dataset_entries(run: Run) -> list[Candidate]:
    """Members of the run's dataset; of a run without one, all candidates of its random search."""
    key = run.settings_key("search", "validation", "compound", "dataset")
    if finished(run, MEMBERS, key) is not None:
        return members_of(run)
    return list(candidates_of(run, RANDOM_SEARCH))


def geometric_training_set(run: Run, settings: GeometricRunSettings | None = None) -> GeometricTrainingSet:
    """Crystals of a run whose rigid units were relaxed in the fixed cell.

    Parameters
    ----------
    run : Run
    settings : GeometricRunSettings, optional
        Default: the run's.

    Raises
    ------
    InputError
        No relaxed crystal, or none left after the held-out ones are taken out.
    ComputationError
        Held-out training without the energy of alpha.
    """
    settings = settings or run.config.geometric
    entries = relaxed_crystals(learned_entries(run, settings), settings.structures)
    if not entries:
        raise InputError(
            f"{run.directory}: no crystal relaxed with rigid units in the fixed cell; run nanh2 dataset build first"
        )
    found = len(entries)
    groups = _groups(run, entries, settings.duplicates)  # of all: the same whatever is held out
    if settings.held_out is not None:
        names = withheld_ids(run, entries, settings.held_out, settings.duplicates)
        shown = [number for number in range(found) if entries[number].id not in names]
        entries, groups = [entries[number] for number in shown], tuple(groups[number] for number in shown)
        if not entries:
            raise InputError(f"{run.directory}: every relaxed crystal is held out; lower held_out.level")
    return GeometricTrainingSet(
        ids=tuple(entry.id for entry in entries),
        units=tuple(entry.unit for entry in entries),
        structures=tuple(entry.structure for entry in entries),
        energies=torch.tensor([entry.result.energy_final for entry in entries], dtype=torch.float64),
        groups=groups,
        evaluations=sum(entry.result.evaluations for entry in entries),
        left_out=found - len(entries),
    )


def relaxed_crystals(entries: Iterable[Candidate], structures: str = "relaxed_fixed") -> list[RelaxedCrystal]:
    """Entries of a dataset whose relaxation in the fixed cell may be used.

    Parameters
    ----------
    entries : iterable of Candidate
    structures : {"relaxed_fixed", "generated"}
        Which crystal is given; energies are those of the relaxed one.
    """
    crystals = []
    for candidate in entries:
        result, raw = candidate.relaxed_fixed, candidate.asymmetric_unit
        if result is None or not result.usable or result.asymmetric_unit is None or raw is None:
            continue
        relaxed = structures == "relaxed_fixed"
        unit = result.asymmetric_unit if relaxed else raw
        crystals.append(
            RelaxedCrystal(candidate.id, result, unit, result.structure if relaxed else candidate.structure)
        )
    return crystals


def withheld(
    structures: Sequence[Structure], energies: Sequence[float], below: float, settings: DuplicateSettings
) -> set[int]:
    """Rows up to an energy, and those that equal one of them whatever their own energy.

    Parameters
    ----------
    structures : sequence of Structure
    energies : sequence of float
        eV per formula unit.
    below : float
        Rows with at most this energy are withheld.
    settings : DuplicateSettings
        Which crystals are equal; their energies are not compared.
    """
    hidden = {row for row, energy in enumerate(energies) if energy <= below}
    library = CrystalLibrary(settings)
    for row in sorted(hidden):
        library.add(str(row), structures[row])
    return hidden | {
        row for row in range(len(structures)) if row not in hidden and library.find(structures[row]) is not None
    }


def held_out_limit(run: Run, rule: HeldOutSettings) -> float:
    """Energy (eV per formula unit) up to which a held-out model must not see crystals."""
    return alpha_in_fixed_cell(run).energy_final + rule.level + rule.margin


def withheld_ids(
    run: Run, crystals: Sequence[RelaxedCrystal], rule: HeldOutSettings, duplicates: DuplicateSettings
) -> frozenset[str]:
    """Ids that a held-out model must not see; worked out once and kept in the run's ``tables``, for it takes minutes.

    Parameters
    ----------
    run : Run
    crystals : sequence of RelaxedCrystal
    rule : HeldOutSettings
    duplicates : DuplicateSettings
    """
    energies = [crystal.result.energy_final for crystal in crystals]
    text = [f"{crystal.id} {energy!r}" for crystal, energy in zip(crystals, energies, strict=True)]
    rules = [config_hash(rule), config_hash(duplicates)]
    key = hashlib.sha256("\n".join([*rules, *text]).encode()).hexdigest()[:16]
    path = run.path("tables", f"held-out-{key}.json")
    if not path.exists():
        limit = held_out_limit(run, rule)
        hidden = withheld([crystal.result.structure for crystal in crystals], energies, limit, duplicates)
        write_json(path, sorted(crystals[row].id for row in hidden))
    return frozenset(read_json(path))


def withheld_library(run: Run, settings: GeometricRunSettings) -> CrystalLibrary | None:
    """Relaxed crystals that a held-out model must not see, to compare others with; None where nothing is held out."""
    if settings.held_out is None:
        return None
    entries = relaxed_crystals(learned_entries(run, settings))
    names = withheld_ids(run, entries, settings.held_out, settings.duplicates)
    library = CrystalLibrary(settings.duplicates)
    for entry in entries:
        if entry.id in names:
            library.add(entry.id, entry.result.structure)
    return library


def _groups(run: Run, entries: Sequence[RelaxedCrystal], settings: DuplicateSettings) -> tuple[int, ...]:
    """Number of each crystal's group, chains of equal ones together; kept in the run's folder, for it takes minutes."""
    text = "\n".join(f"{e.id} {e.result.energy_final!r} {e.unit.hall_number}" for e in entries)
    key = hashlib.sha256(f"{config_hash(settings)}\nconnected\n{text}".encode()).hexdigest()[:16]
    path = run.directory / "models" / f"groups-{key}.json"
    if path.exists():
        return tuple(int(number) for number in read_json(path))
    groups = connected_groups(
        [entry.result.structure for entry in entries], [entry.result.energy_final for entry in entries], settings
    )
    write_json(path, groups)
    return tuple(groups)


def alpha_in_fixed_cell(run: Run) -> RelaxationResult:
    """Alpha relaxed as the dataset's ``relaxed_fixed``: the zero of the judged energies; kept in ``tables/``.

    Raises
    ------
    ComputationError
        The relaxation failed or ended unusable.
    """
    settings = run.config.dataset.relaxed_fixed
    path = run.path("tables", f"alpha-{final_key(settings).replace(':', '-')}-{config_hash(settings)}.json")
    if path.exists():
        return RelaxationResult.from_dict(read_json(path))
    crystals = {"alpha": reference_structure("alpha")}
    results = relax_many(crystals, settings, compound=compound_of(run), progress=False)["alpha"]
    if isinstance(results, str) or not results[-1].usable:
        reason = results if isinstance(results, str) else ", ".join(results[-1].flags)
        raise ComputationError(f"alpha: its relaxation with {settings.potential} failed ({reason})")
    write_json(path, results[-1].to_dict())
    return results[-1]
