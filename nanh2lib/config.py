"""The configuration of a run: one settings model for each stage, profiles shipped with the package."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from nanh2lib.diffusion.models import TrainingSettings
from nanh2lib.diffusion.sampling import SamplingSettings
from nanh2lib.energy.labels import LabelSettings
from nanh2lib.errors import InputError
from nanh2lib.ranking import DuplicateSettings, RankingSettings
from nanh2lib.relaxation.settings import RelaxationSettings, RigidSettings
from nanh2lib.search.random_search import SearchSettings
from nanh2lib.settings import StageSettings, read_yaml
from nanh2lib.validation import ValidationSettings

PROFILES = ("smoke", "default", "full")


class SelectionSettings(StageSettings):
    """Which candidates are relaxed.

    Attributes
    ----------
    per_method : int
        Accepted candidates of each method that are relaxed: those with the lowest energy before
        relaxation.
    methods : tuple of str
        Methods by their names in the store.
    published_max_atoms : int
        Published structures whose primitive cell has at most this many atoms are relaxed too,
        for the comparison with the tables.
    """

    per_method: int = Field(default=20, ge=1)
    methods: tuple[str, ...] = ("random_search", "paper_unguided_pushed", "paper_guided_pushed")
    published_max_atoms: int = Field(default=16, ge=0)


class DatasetSettings(StageSettings):
    """How a dataset is built from the candidates of the search.

    Attributes
    ----------
    per_setting : int
        Different crystals taken from each space-group setting, in the order of the draws.
    accepted_per_setting : int
        Accepted candidates that the search offers for them (settings with few degrees of freedom
        draw the same crystal again and again).
    duplicates : DuplicateSettings
        When two unrelaxed crystals of one space group count as one; energies are not looked at.
    potentials : tuple of str
        Each entry is labelled with these before relaxation.
    relaxed_fixed : RelaxationSettings
        Rigid units in the fixed cell: what the models are trained on.
    relaxed : RelaxationSettings
        All atoms and the cell, space group kept; starts from ``relaxed_fixed``.
    relaxed_per_setting : int
        How many of each setting are relaxed fully, spread evenly over their energies.
    """

    per_setting: int = Field(default=50, ge=1)
    accepted_per_setting: int = Field(default=200, ge=1)
    duplicates: DuplicateSettings = Field(default_factory=DuplicateSettings)
    potentials: tuple[str, ...] = ("chgnet", "sevennet-0")
    relaxed_fixed: RelaxationSettings = RelaxationSettings(
        potential="chgnet", rigid=RigidSettings(cell="fixed", max_evaluations=200), atoms=None
    )
    relaxed: RelaxationSettings = RelaxationSettings(potential="sevennet-0")
    relaxed_per_setting: int = Field(default=15, ge=0)


class RunConfig(StageSettings):
    """Everything a run depends on.

    Attributes
    ----------
    profile : str
        Name that results are quoted with.
    expected_minutes : float
        Wall time on two cores, as measured when the profile was made; printed before the run.
    seed : int
        Seed of every stage.
    store : str or None
        URL of the candidate store; None: an SQLite file in the run's folder.
    compound : str or None
        YAML file with rigid units; None: sodium amide.
    search, label, training, sampling, validation, selection, relaxation, ranking, dataset
        One settings model for each stage.
    """

    profile: str = "custom"
    expected_minutes: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    compound: str | None = None
    search: SearchSettings = Field(default_factory=SearchSettings)
    label: LabelSettings = Field(default_factory=LabelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    validation: ValidationSettings = Field(default_factory=ValidationSettings)
    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    relaxation: RelaxationSettings = Field(default_factory=RelaxationSettings)
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    dataset: DatasetSettings = Field(default_factory=DatasetSettings)


def load_config(
    profile: str = "default", path: str | Path | None = None, *, compound: str | Path | None = None
) -> RunConfig:
    """Configuration of a shipped profile, with a user's YAML file on top.

    Parameters
    ----------
    profile : str
        ``"smoke"``, ``"default"`` or ``"full"``.
    path : path, optional
        YAML; its keys replace those of the profile, section by section. A changed configuration
        is called ``custom``.
    compound : path, optional
        YAML file with rigid units.

    Raises
    ------
    InputError
        No such profile, a file that is not YAML, an unknown key (the nearest valid one is
        named) or a value out of range.
    """
    data = profile_settings(profile)
    source = f"profile {profile}"
    if path is not None:
        data = _merged(data, {"profile": "custom", **read_yaml(path)})
        source = str(path)
    if compound is not None:
        data = {**data, "compound": str(Path(compound).resolve())}
    return RunConfig.from_mapping(data, source)


def profile_settings(profile: str) -> dict[str, Any]:
    """Keys and values of a shipped profile."""
    if profile not in PROFILES:
        near = difflib.get_close_matches(profile, PROFILES, n=1, cutoff=0.0)[0]
        raise InputError(
            f"profile {profile!r} does not exist; did you mean {near!r}? (profiles: {', '.join(PROFILES)})"
        )
    with resources.as_file(resources.files("nanh2lib") / "profiles" / f"{profile}.yaml") as file:
        return read_yaml(file)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result
