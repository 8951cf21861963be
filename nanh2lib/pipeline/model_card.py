"""Model cards: what a shipped checkpoint is, what it learned from, and what it is not good for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanh2lib.diffusion.geometric.checkpoint import GeometricModels
from nanh2lib.pipeline.run import Run
from nanh2lib.settings import config_hash, package_version


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
    held_out = "nothing is held out"
    if settings.held_out is not None:
        limit = 1000 * (settings.held_out.level + settings.held_out.margin)
        held_out = (
            f"{summary['left_out']} crystals up to {limit:.0f} meV per formula unit above alpha, "
            "and all that match one of them, are held out"
        )
    pretraining = "none"
    if settings.pretraining is not None:
        first = settings.pretraining
        pretraining = f"{first.epochs} epochs on {first.per_setting} pushed-apart crystals a setting, no energy calls"
    counts = ", ".join(
        f"{template.label} ({count})"
        for template, count in sorted(
            zip(vocabulary.templates, vocabulary.counts, strict=True), key=lambda pair: (-pair[1], pair[0].label)
        )[:8]
    )
    lines = [
        f"# Geometric diffusion model ({', '.join(unit.name for unit in vocabulary.kinds.units)})",
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
        f"| energy calls spent on the crystals | {summary['evaluations_charged']} |",
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
