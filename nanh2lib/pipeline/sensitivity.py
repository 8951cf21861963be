"""How much the paper model's open choices matter: one changed at a time, everything else equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nanh2lib.crystal.subunits import from_subunits
from nanh2lib.diffusion.models import PaperModels, TrainingSettings
from nanh2lib.diffusion.sampling import Samples, SamplingSettings, sample
from nanh2lib.diffusion.training import train_energy_model, train_noise_model
from nanh2lib.pipeline.guidance import predicted_energies, spread
from nanh2lib.pipeline.model import TrainingSet
from nanh2lib.validation import ValidationSettings, shortest_contacts, validate


@dataclass(frozen=True)
class Choice:
    """One setting of what the supplement leaves open.

    Attributes
    ----------
    group, value : str
        E.g. ``"T"`` and ``"300"``.
    training, sampling : mapping
        Fields of `TrainingSettings` and `SamplingSettings` that differ from the base.
    """

    group: str
    value: str
    training: Mapping[str, Any]
    sampling: Mapping[str, Any]


def choice(group: str, value: Any, **changes: Any) -> Choice:
    """A choice; each change goes to the settings that know its name."""
    sampling = {key: item for key, item in changes.items() if key in SamplingSettings.model_fields and key != "seed"}
    training = {key: item for key, item in changes.items() if key not in sampling}
    return Choice(group, str(value), training, sampling)


BASE = choice("base", "base")
CHOICES: tuple[Choice, ...] = (
    *(choice("T", t, timesteps=t) for t in (100, 300, 1000)),
    choice("schedule", "linear"),
    choice("schedule", "cosine", schedule="cosine"),
    *(choice("epochs", e, epochs=e) for e in (100, 300, 1000)),
    *(choice("weight w", w, guidance_scale=w) for w in (0.0, 1.0, 3.0, 10.0)),
    *(choice("validation split", f, validation_fraction=f) for f in (0.05, 0.1, 0.3)),
    *(choice("padding", name, mask_input=mask) for name, mask in (("hidden", False), ("shown", True))),
    *(choice("seed", s, seed=s) for s in (0, 1, 2)),
)


def sensitivity(
    data: TrainingSet,
    training: TrainingSettings,
    sampling: SamplingSettings,
    choices: Sequence[Choice] = CHOICES,
    done: Mapping[str, Mapping[str, Any]] | None = None,
    on_result: Callable[[str, dict[str, Any]], None] | None = None,
    *,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Train, sample and measure for each choice; choices with equal settings are computed once.

    Parameters
    ----------
    data : TrainingSet
    training, sampling : TrainingSettings, SamplingSettings
        The base.
    choices : sequence of Choice
    done : mapping, optional
        Results of an earlier, interrupted call, by name.
    on_result : callable, optional
        Called with name and numbers of each choice as it is done; write them down.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        `measure` of each choice, by ``"group = value"``.
    """
    results: dict[str, dict[str, Any]] = {name: dict(row) for name, row in (done or {}).items()}
    models: dict[str, PaperModels] = {}
    known: dict[str, dict[str, Any]] = {}
    for option in choices:
        name = f"{option.group} = {option.value}"
        how = type(training).from_mapping({**training.model_dump(), **option.training}, name)
        draw = type(sampling).from_mapping({**sampling.model_dump(), **option.sampling, "seed": how.seed}, name)
        key, full = how.model_dump_json(), how.model_dump_json() + draw.model_dump_json()
        if name not in results:
            if full not in known:
                if key not in models:
                    models = {key: _trained(data, how, progress)}
                known[full] = measure(models[key], draw, data, progress=progress)
            results[name] = known[full]
            if on_result is not None:
                on_result(name, results[name])
        known[full] = results[name]
    return results


def _trained(data: TrainingSet, settings: TrainingSettings, progress: bool) -> PaperModels:
    given: dict[str, Any] = {"templates": data.templates, "progress": progress}
    noise = train_noise_model(data.z, data.mask, settings, **given)
    return PaperModels(noise, train_energy_model(data.z, data.mask, data.energies, settings, **given))


def measure(
    models: PaperModels, settings: SamplingSettings, data: TrainingSet, *, progress: bool = True
) -> dict[str, Any]:
    """What models and samples are worth.

    Parameters
    ----------
    models : PaperModels
    settings : SamplingSettings
        Guided; the same noise is also drawn without guidance.
    data : TrainingSet
    progress : bool

    Returns
    -------
    dict
        ``spread`` (1 in the training set), ``closest`` (median of the tightest contact over its
        limit), ``valid_percent`` and ``valid_percent_at_0.7``, ``gain`` (mean predicted energy,
        guided minus unguided, meV per formula unit), ``energy_error`` (mean absolute validation
        error over that of the mean).
    """
    guided = sample(models, settings, progress=progress)
    free = guided
    if settings.guidance_scale > 0:
        free = sample(models, settings.model_copy(update={"guidance_scale": 0.0}), progress=progress)
    energies = [float(predicted_energies(models, samples).mean()) for samples in (guided, free)]
    closest, valid = _contacts(guided, models)
    errors = models.energy.history.metrics if models.energy is not None else {}
    return {
        "spread": round(spread(models.noise, guided), 4),
        "closest": round(closest, 4),
        "valid_percent": round(100 * valid[1.0] / len(guided), 3),
        "valid_percent_at_0.7": round(100 * valid[0.7] / len(guided), 3),
        "gain": round(1e3 * (energies[0] - energies[1]), 2),
        "noise_validation_loss": round(min(models.noise.history.validation_loss), 4),
        **{f"energy_{name}": round(value, 5) for name, value in errors.items()},
    }


def _contacts(samples: Samples, models: PaperModels) -> tuple[float, dict[float, int]]:
    scheme, settings = models.noise.settings.scheme, ValidationSettings()
    ratios = torch.zeros(len(samples), dtype=torch.float64)
    valid = {1.0: 0, 0.7: 0}
    for unit, rows in replace(samples, trajectory=None).decode(scheme):
        crystals = from_subunits(unit) if scheme == "paper" else unit
        table = shortest_contacts(crystals, settings.limits())
        ratios[rows] = (table.distances / table.limits).amin(-1)
        for scale in valid:
            scaled = settings.model_copy(update={"limit_scale": scale})
            valid[scale] += sum(report.passed for report in validate(crystals, scaled))
    return float(ratios.median()), valid
