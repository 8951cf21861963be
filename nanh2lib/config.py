"""The configuration of a run: one settings model for each stage, profiles shipped with the package."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from nanh2lib.diffusion.geometric.descent import DescentSettings
from nanh2lib.diffusion.geometric.model import GeometricSettings
from nanh2lib.diffusion.geometric.network import NetworkSettings
from nanh2lib.diffusion.geometric.sampling import GeometricSamplingSettings
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


class HeldOutSettings(StageSettings):
    """What a model must not have seen to be judged fairly.

    Attributes
    ----------
    level : float
        Energy above alpha at which finds are judged, eV per formula unit.
    margin : float
        Everything up to ``level + margin`` above alpha is left out of training, in all templates,
        and with it every crystal that matches one left out.
    """

    level: float = Field(default=0.05, ge=0)
    margin: float = Field(default=0.02, ge=0)


class PretrainingSettings(StageSettings):
    """A first training on crystals as the search makes them: packing costs no energy calls to learn.

    Attributes
    ----------
    per_setting : int
        Pushed-apart crystals of each setting of the run's search.
    limit_scale : float
        Factor on the contact limits: a little room, so that noise leaves the limits kept.
    epochs : int
    downhill : bool
        Let the crystals go downhill on the learned potential first.
    """

    per_setting: int = Field(default=40, ge=1)
    limit_scale: float = Field(default=1.12, gt=0)
    epochs: int = Field(default=80, ge=1)
    downhill: bool = False


class LearnedPotentialSettings(StageSettings):
    """A potential of rigid units that is learned from the one that judges, and costs none of its calls to follow.

    Attributes
    ----------
    shaken : int
        Shaken copies of each relaxed crystal that are labelled beside it and its raw crystal.
    shift, turn : float
        Largest spread of their moves, A and radians.
    explored_per_setting : int
        Random crystals of each setting of the run's search that go downhill on it and are labelled
        where they end (and shaken); it is trained on with these. 0: none.
    refit_epochs : int
    training : GeometricSettings
    descent : DescentSettings
        How crystals go downhill.
    """

    shaken: int = Field(default=2, ge=0)
    shift: float = Field(default=0.4, gt=0)
    turn: float = Field(default=0.8, gt=0)
    explored_per_setting: int = Field(default=50, ge=0)
    refit_epochs: int = Field(default=15, ge=1)
    training: GeometricSettings = GeometricSettings(epochs=25)
    descent: DescentSettings = DescentSettings()


class GeometricRunSettings(StageSettings):
    """The geometric model in a run: what it learns from, its networks, and how it samples.

    Attributes
    ----------
    dataset : str or None
        ``"shipped"`` (the package's), or the folder of the run whose dataset is learned from; None:
        the run's own.
    structures : {"relaxed_fixed", "generated"}
        Learn from rigid units relaxed in the fixed cell, or from crystals as the search made them
        (ablation).
    temperature : float or None
        Weight of a crystal in the loss is exp(-(E - mean E) / temperature), eV per formula unit,
        normalised; None: equal weights.
    held_out : HeldOutSettings or None
        None: learn from everything.
    pretraining : PretrainingSettings or None
        None: straight to the dataset.
    initial : str or None
        Checkpoint to go on from, in place of pretraining and of the first training of the potential.
    potential : LearnedPotentialSettings or None
        Makes the energy network a learned potential (`energy` is then not used).
    duplicates : DuplicateSettings
        Which training crystals count as one: these stay on one side of the validation split.
    training : GeometricSettings
        Of the score network.
    energy : GeometricSettings
        Of the energy network, smaller because guidance differentiates it at each step.
    guide : {"none", "paper", "noised", "x0", "physics"}
        Where guided samples ask the energy network, or ``relaxed_fixed``'s own potential.
    templates : tuple of int
        Hall numbers that are sampled, all units on general positions.
    sampling : GeometricSamplingSettings
        ``count`` samples of each template; without corrector.
    """

    dataset: str | None = None
    structures: Literal["relaxed_fixed", "generated"] = "relaxed_fixed"
    temperature: float | None = Field(default=None, gt=0)
    held_out: HeldOutSettings | None = None
    pretraining: PretrainingSettings | None = None
    initial: str | None = None
    potential: LearnedPotentialSettings | None = None
    duplicates: DuplicateSettings = DuplicateSettings(energy_window=0.01, amd_window=0.3, same_space_group=False)
    training: GeometricSettings = Field(default_factory=GeometricSettings)
    energy: GeometricSettings = GeometricSettings(
        epochs=150, network=NetworkSettings(features=32, channels=8, layers=2, cutoff=4.5, radial=12)
    )
    guide: Literal["none", "paper", "noised", "x0", "physics"] = "x0"
    templates: tuple[int, ...] = (81, 6, 115, 2, 16)
    sampling: GeometricSamplingSettings = GeometricSamplingSettings(corrector_steps=0)


class PaperTrainingSettings(TrainingSettings):
    """The supplement's model in a run: its networks, and what they learn from.

    Attributes
    ----------
    dataset : str or None
        ``"shipped"`` (the package's), or the folder of the run whose dataset is learned from; None:
        the run's own labelled candidates.
    structures : {"relaxed_fixed", "generated"}
        Of a dataset: rigid units relaxed in the fixed cell with the energy they ended at, or crystals
        as the search made them with theirs (the supplement does not say which).
    duplicates : DuplicateSettings
        Which training crystals count as one: these stay on one side of the validation split.
    """

    dataset: str | None = None
    structures: Literal["relaxed_fixed", "generated"] = "relaxed_fixed"
    duplicates: DuplicateSettings = DuplicateSettings(energy_window=0.01, amd_window=0.3, same_space_group=False)

    @property
    def networks(self) -> TrainingSettings:
        """The settings of the networks alone, as they stand in a checkpoint."""
        return TrainingSettings(**self.model_dump(include=set(TrainingSettings.model_fields)))


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
        Of the candidates: an SQLite file, or ``postgresql://user@host/name`` (one database for each
        run); None: an SQLite file in the run's folder.
    compound : str or None
        YAML file with rigid units; None: sodium amide.
    model : {"paper", "geometric"}
        Which model ``train`` and ``sample`` mean: the supplement's (sections ``training`` and
        ``sampling``) or ours (section ``geometric``).
    search, label, training, sampling, validation, selection, relaxation, ranking, dataset, geometric
        One settings model for each stage.
    """

    profile: str = "custom"
    expected_minutes: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    compound: str | None = None
    model: Literal["paper", "geometric"] = "paper"
    search: SearchSettings = Field(default_factory=SearchSettings)
    label: LabelSettings = Field(default_factory=LabelSettings)
    training: PaperTrainingSettings = Field(default_factory=PaperTrainingSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    validation: ValidationSettings = Field(default_factory=ValidationSettings)
    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    relaxation: RelaxationSettings = Field(default_factory=RelaxationSettings)
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    dataset: DatasetSettings = Field(default_factory=DatasetSettings)
    geometric: GeometricRunSettings = Field(default_factory=GeometricRunSettings)


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
