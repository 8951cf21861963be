"""Model cards: what a shipped checkpoint is, what it learned from, and what it is not good for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanh2lib.diffusion.geometric.checkpoint import GeometricModels
from nanh2lib.diffusion.models import PaperModels
from nanh2lib.errors import InputError
from nanh2lib.pipeline.run import Run
from nanh2lib.settings import config_hash, package_version

CHARGED = "| energy calls spent on the crystals |"
"""Begin of the line that says what a model's training set cost."""


def charged_calls(card: Path) -> int:
    """Energy calls that a model's training set took, as its card says.

    Parameters
    ----------
    card : Path
        Markdown file beside the checkpoint.

    Raises
    ------
    InputError
        There is no card, or it does not say.
    """
    lines = card.read_text().splitlines() if card.exists() else []
    for line in lines:
        if line.startswith(CHARGED):
            number = line.removeprefix(CHARGED).strip(" |")
            if number.isdecimal():
                return int(number)
    raise InputError(f"{card}: it does not say how many energy calls the training set took; train again")


def geometric_card(run: Run, summary: Mapping[str, Any], models: GeometricModels) -> str:
    """Card (Markdown) of a geometric model.

    Parameters
    ----------
    run : Run
    summary : mapping
        As returned by `nanh2lib.pipeline.geometric.training_summary`.
    models : GeometricModels
    """
    settings = run.config.geometric
    vocabulary = models.score.vocabulary
    weights = sum(p.numel() for p in models.score.network.parameters())
    relaxed = run.config.dataset.relaxed_fixed
    held_out, title = "nothing is held out", "Geometric diffusion model"
    if settings.held_out is not None:
        title += " without low energies"
        limit = 1000 * (settings.held_out.level + settings.held_out.margin)
        held_out = (
            f"{summary['left_out']} crystals up to {limit:.0f} meV per formula unit above alpha, "
            "and all that match one of them, are held out"
        )
    pretraining = "none"
    if settings.pretraining is not None:
        first = settings.pretraining
        kind = "pushed-apart crystals a setting"
        if first.downhill:
            kind += ", gone downhill on the learned potential"
        pretraining = f"{first.epochs} epochs on {first.per_setting} {kind}, no energy calls"
    if settings.initial is not None:
        pretraining = f"goes on from {Path(settings.initial).stem}"
    counts = ", ".join(
        f"{template.label} ({count})"
        for template, count in sorted(
            zip(vocabulary.templates, vocabulary.counts, strict=True), key=lambda pair: (-pair[1], pair[0].label)
        )[:8]
    )
    lines = [
        f"# {title} ({', '.join(unit.name for unit in vocabulary.kinds.units)})",
        "",
        "Scores of rigid units' positions (torus) and orientations (SO(3) modulo the unit's point group), "
        "given space group and site template, in a clamped cell.",
        "",
        "| | |",
        "|---|---|",
        f"| package | nanh2lib {package_version()} |",
        f"| profile, seed | {run.config.profile}, {run.config.seed} |",
        f"| settings | `geometric` section, hash {config_hash(settings)} |",
        f"| weights of the score network | {weights} |",
        f"| crystals | {summary['structures']} ({summary['different']} different), {settings.structures} |",
        f"| pretraining | {pretraining} |",
        f"| held out | {held_out} |",
        f"| potential | {relaxed.potential}, rigid units, cell {relaxed.rigid.cell if relaxed.rigid else 'none'} |",
        f"{CHARGED} {summary['evaluations_charged']} |",
        *_potential_lines(summary),
        f"| templates | {summary['templates']} in {summary['space_groups']} settings; most frequent: {counts} |",
        f"| epochs | {summary['epochs']} |",
        f"| loss, training and validation | {summary['training_loss']:.4f}, {summary['validation_loss']:.4f} |",
        *(f"| energy network: {name} | {value:.4g} |" for name, value in summary["energy_metrics"].items()),
        "",
        "Use: proposals for relaxation in the same cell, on templates made of the same units (templates outside the",
        "training set work, with less to go by). Energies are the potential's, not first-principles ones.",
        "Not for: other compounds or cells; ranking without relaxation.",
        "",
    ]
    return "\n".join(lines)


def paper_card(run: Run, summary: Mapping[str, Any], models: PaperModels) -> str:
    """Card (Markdown) of the supplement's model.

    Parameters
    ----------
    run : Run
    summary : mapping
        As returned by `nanh2lib.pipeline.model.train`.
    models : PaperModels
    """
    settings, library = run.config.training, models.noise.library
    noise, energy = models.noise.network, models.energy.network if models.energy is not None else None
    weights = [0 if network is None else sum(p.numel() for p in network.parameters()) for network in (noise, energy)]
    source = "the run's own labelled candidates"
    if settings.dataset is not None:
        shipped = "the dataset of the package" if settings.dataset == "shipped" else "the dataset of another run"
        source = f"{shipped}, {settings.structures}"
    padded = f"D = {summary['dimension']}, scheme {settings.scheme}, padded with a mask in the loss"
    lines = [
        "# The supplement's diffusion model (noise and energy networks on the vector z)",
        "",
        "Two multilayer perceptrons: one predicts the noise in a standardised vector z of positions, orientations and",
        "cell of an asymmetric unit, the other the energy of a clean z, whose gradient guides sampling.",
        "",
        "| | |",
        "|---|---|",
        f"| package | nanh2lib {package_version()} |",
        f"| profile, seed | {run.config.profile}, {run.config.seed} |",
        f"| settings | `training` section, hash {config_hash(settings)} |",
        f"| vector z | {padded} |",
        f"| weights of noise and energy network | {weights[0]}, {weights[1]} |",
        f"| crystals | {summary['structures']} ({summary['different']} different), {source} |",
        f"| energies | {run.config.label.potential}, eV per formula unit |",
        f"{CHARGED} {summary['evaluations_charged']} |",
        *_potential_lines(summary),
        f"| templates | {len(library)} |",
        f"| timesteps, schedule | {settings.timesteps}, {settings.schedule} |",
        f"| epochs | {summary['epochs']}; kept: that of the lowest validation loss |",
        f"| noise loss, lowest on validation (1: answering zero) | {summary['noise_validation_loss']:.4f} |",
        *(f"| energy network: {name}, eV | {value:.4f} |" for name, value in summary["energy_metrics"].items()),
        "",
        'Use: `nanh2lib.sample(nanh2lib.pretrained_models("paper"))` draws vectors on the templates of the training',
        "set; decoded, pushed apart and relaxed they are candidates. `baseline_...` above are errors of predicting the",
        "mean. Not for: other compounds, cells or templates; ranking (guidance finds the faults of these energies).",
        "",
    ]
    return "\n".join(lines)


def _potential_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a learned potential was trained on, if there is one."""
    labels = summary.get("gradient_labels") or {}
    if not labels:
        return []
    return [
        "| energy network | a learned potential: energies and gradients of raw, relaxed and shaken crystals, and of "
        f"random ones where they end on it; {labels['labelled']} labels learned from, {labels['left_out']} held out, "
        f"{labels['failed']} failed; {labels['evaluations']} of the energy calls |"
    ]
