"""From labelled candidates to trained models, samples and decoded candidates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.encoding import ZLayout
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.crystal.subunits import SubunitError, from_subunits, to_subunits
from nanh2lib.diffusion.models import PaperModels, load_paper_models, save_paper_models
from nanh2lib.diffusion.sampling import Samples, sample
from nanh2lib.diffusion.training import train_energy_model, train_noise_model
from nanh2lib.errors import InputError, Nanh2Error
from nanh2lib.pipeline.model_card import paper_card
from nanh2lib.pipeline.run import Run, stage, write_text
from nanh2lib.pipeline.search import candidate_id, compound_of
from nanh2lib.pipeline.training_data import LabelledCrystal, equal_crystals, labelled_crystals
from nanh2lib.records import Candidate, ValidationReport
from nanh2lib.search.push_apart import push_apart
from nanh2lib.settings import package_version
from nanh2lib.validation import validate


@dataclass(frozen=True)
class TrainingSet:
    """Encoded structures with their energies.

    Attributes
    ----------
    ids : tuple of str, length N
        Candidates in the store.
    templates : tuple of Template, length N
    z : Tensor, shape (N, D)
        A, radians, degrees; zero in the padding.
    mask : Tensor of bool, shape (N, D)
    energies : Tensor, shape (N,)
        eV per formula unit.
    refused : dict
        How many structures the encoding could not hold, by reason.
    groups : tuple of int, length N, or None
        Equal crystals share a number, and so a side of the validation split; None: all differ.
    evaluations : int
        Energy calls that the structures and their energies took: what the model is charged.
    """

    ids: tuple[str, ...]
    templates: tuple[Template, ...]
    z: Tensor
    mask: Tensor
    energies: Tensor
    refused: dict[str, int]
    groups: tuple[int, ...] | None = None
    evaluations: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> str:
        """Hash of the data."""
        digest = hashlib.sha256("".join(self.ids).encode())
        for tensor in (self.z, self.energies):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def training_set(run: Run) -> TrainingSet:
    """Encode the crystals that the run's section ``training`` names; by default its accepted, labelled candidates.

    Each structure is read back from its atoms, so that it has the one canonical asymmetric unit
    and origin. Structures without a label are left out; those that the scheme cannot hold are
    counted, and charged.

    Raises
    ------
    InputError
        Nothing to train on: no labelled candidate, or none that the scheme can hold. Scheme
        ``paper`` for another compound than NaNH2.
    """
    scheme, compound = run.config.training.scheme, compound_of(run)
    if scheme == "paper" and compound.units != SODIUM_AMIDE.units:
        raise InputError(
            f"training.scheme = 'paper' writes rigid NaNH2 subunits and cannot hold {compound.name} "
            f"({', '.join(unit.name for unit in compound.units)}); use training.scheme = 'split'"
        )
    rows: list[tuple[LabelledCrystal, AsymmetricUnit]] = []
    refused: Counter[str] = Counter()
    crystals = labelled_crystals(run)
    for crystal in tqdm(crystals, desc="encode", unit="structure", disable=not run.progress):
        try:
            unit = extract_asymmetric_unit(crystal.structure, compound=compound, canonical_origin=True)
            rows.append((crystal, to_subunits(unit) if scheme == "paper" else unit))
        except SubunitError:
            refused["Na and NH2 on different sites"] += 1
        except Nanh2Error as error:
            refused[type(error).__name__] += 1
    if not rows:
        raise InputError(
            f"{run.directory}: nothing to train on ({len(crystals)} structures with a {run.config.label.potential} "
            f"energy, {sum(refused.values())} refused by scheme {scheme!r}); run search and label first, use "
            "training.dataset = 'shipped', or use scheme 'split'"
        )
    layout = ZLayout.for_templates([unit.template for _, unit in rows], scheme)
    kept = [crystal for crystal, _ in rows]
    return TrainingSet(
        ids=tuple(crystal.id for crystal in kept),
        templates=tuple(unit.template for _, unit in rows),
        z=torch.cat([layout.encode(unit) for _, unit in rows]),
        mask=torch.stack([layout.mask(unit.template) for _, unit in rows]),
        energies=torch.tensor([crystal.energy for crystal in kept], dtype=torch.float64),
        refused=dict(refused),
        groups=equal_crystals(run, kept, run.config.training.duplicates),
        evaluations=sum(crystal.evaluations for crystal in crystals),
    )


def train(run: Run) -> dict[str, Any]:
    """Train both networks on the structures that the configuration names; a killed run goes on where it was.

    Returns
    -------
    dict
        Structures, refusals, energy calls charged, losses, and the energy model's error beside that
        of the mean.
    """
    data = training_set(run)
    settings = run.config.training.networks.model_copy(update={"seed": run.config.seed})

    def work() -> dict[str, Any]:
        noise = train_noise_model(
            data.z,
            data.mask,
            settings,
            templates=data.templates,
            groups=data.groups,
            run_directory=run.path("models", "noise_run"),
            progress=run.progress,
        )
        energy = train_energy_model(
            data.z,
            data.mask,
            data.energies,
            settings,
            templates=data.templates,
            groups=data.groups,
            run_directory=run.path("models", "energy_run"),
            progress=run.progress,
        )
        models = PaperModels(noise, energy)
        save_paper_models(model_path(run), models)
        summary = {
            "structures": len(data),
            "different": len(set(data.groups or data.ids)),
            "evaluations_charged": data.evaluations,
            "dimension": int(data.z.shape[1]),
            "templates": len(set(data.templates)),
            "refused": data.refused,
            "scheme": settings.scheme,
            "epochs": settings.epochs,
            "noise_training_loss": noise.history.loss[-1],
            "noise_validation_loss": min(noise.history.validation_loss, default=None),
            "energy_metrics": dict(energy.history.metrics),
        }
        write_text(model_path(run).with_suffix(".md"), paper_card(run, summary, models))
        return summary

    return stage(run, "train", f"{run.settings_key('training')}-{data.key}", work)


def model_path(run: Run) -> Any:
    """Where the trained pair of models is kept."""
    return run.path("models", "paper.json")


def load_models(run: Run) -> PaperModels:
    """The run's trained models.

    Raises
    ------
    CheckpointError
        Not trained yet, or a damaged or foreign checkpoint.
    """
    return load_paper_models(model_path(run))


def draw(run: Run, *, guided: bool = True, snapshots: int = 0, count: int | None = None) -> Samples:
    """Draw vectors z with the run's models, guided by the energy model or not, from the same noise."""
    changes: dict[str, Any] = {"seed": run.config.seed, "snapshots": snapshots}
    if not guided:
        changes["guidance_scale"] = 0.0
    if count is not None:
        changes["count"] = count
    return sample(load_models(run), run.config.sampling.model_copy(update=changes), progress=run.progress)


def decode_samples(run: Run, samples: Samples) -> list[tuple[AsymmetricUnit, Tensor]]:
    """Asymmetric units of Na and NH2 by template, with the numbers of their rows in the samples."""
    decoded = samples.decode(run.config.training.scheme)
    if run.config.training.scheme == "paper":
        return [(from_subunits(unit), rows) for unit, rows in decoded]
    return decoded


def sample_stage(run: Run) -> dict[str, Any]:
    """Sample with and without guidance, decode, validate, correct, and put all into the store.

    Each sample gives two candidates: as decoded, and after the push-apart corrector. Both are
    validated; rejected ones stay with their reason.

    Returns
    -------
    dict
        For guided and unguided samples: how many decode, and how many pass before and after
        the corrector.
    """
    key = f"{run.settings_key('training', 'sampling', 'validation')}-{_file_key(model_path(run))}"

    def work() -> dict[str, Any]:
        return {name: _sample_one(run, name == "guided", key) for name in ("guided", "unguided")}

    return stage(run, "sample", key, work)


def _file_key(path: Any) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{path}: no trained model; run 'nanh2 train' first") from error


def _sample_one(run: Run, guided: bool, key: str) -> dict[str, Any]:
    samples = draw(run, guided=guided)
    counts: Counter[str] = Counter(samples=len(samples))
    reasons: Counter[str] = Counter()
    known = set(run.store.ids(config_hash=key))  # what a killed run left
    for unit, rows in decode_samples(run, samples):
        counts["decoded"] += len(rows)
        raw, corrected = (_kept(run, known, rows.tolist(), guided, pushed, key) for pushed in (False, True))
        if not (raw and corrected):
            raw, corrected = _checked_and_pushed(run, unit, rows.tolist(), guided, key)
            run.store.add([*raw, *corrected])
        counts["valid"] += sum(c.accepted for c in raw)
        counts["valid_after_push_apart"] += sum(c.accepted for c in corrected)
        for candidate in raw:
            if candidate.report is not None:
                reasons.update(check.name for check in candidate.report.checks if not check.passed)
    return {**counts, "failed_checks": dict(reasons)}


def _kept(run: Run, known: set[str], rows: Sequence[int], guided: bool, corrected: bool, key: str) -> list[Candidate]:
    """Samples of these rows from the store; empty unless all are there."""
    ids = [candidate_id(method_name(guided, corrected), key, row) for row in rows]
    return [run.store.get(identity) for identity in ids] if known.issuperset(ids) else []


def _checked_and_pushed(
    run: Run, unit: AsymmetricUnit, rows: Sequence[int], guided: bool, key: str
) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates of a decoded batch as they are and pushed apart, both with their validation reports."""
    raw = checked_candidates(run, unit, rows, guided, False, key)
    pushed = push_apart([unit[i] for i in range(len(unit))], run.config.search.limits(), run.config.search.push)
    return raw, checked_candidates(run, AsymmetricUnit.cat(list(pushed.units)), rows, guided, True, key)


def method_name(guided: bool, corrected: bool) -> str:
    """Name under which samples are kept: ``"paper_guided"``, ``"paper_unguided_pushed"``, ..."""
    return f"paper_{'guided' if guided else 'unguided'}{'_pushed' if corrected else ''}"


def checked_candidates(
    run: Run, unit: AsymmetricUnit, rows: Sequence[int], guided: bool, corrected: bool, key: str
) -> list[Candidate]:
    """Candidates of a decoded batch with their validation reports."""
    method = method_name(guided, corrected)
    reports: Sequence[ValidationReport] = validate(unit, run.config.validation)
    return [
        Candidate(
            id=candidate_id(method, key, row),
            structure=structure,
            method=method,
            seed=run.config.seed,
            config_hash=key,
            package_version=package_version(),
            asymmetric_unit=unit[index],
            report=report,
            extra={"row": row, "template": unit.template.label},
        )
        for index, (row, structure, report) in enumerate(zip(rows, expand(unit), reports, strict=True))
    ]
