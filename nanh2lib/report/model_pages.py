"""The book's page of shipped models: each card, its training and its settings, from the checkpoint itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nanh2lib.errors import ComputationError
from nanh2lib.files import write_atomically
from nanh2lib.report import plots
from nanh2lib.report.html_table import html_table, typeset

MODELS = Path(__file__).resolve().parent.parent / "data" / "models"
"""Folder of the checkpoints that come with the package."""


def models_page(target: str | Path, source: str | Path = MODELS) -> str:
    """Text (MyST) of one section for each checkpoint; the training curves are written beside it.

    Parameters
    ----------
    target : path
        Folder that gets ``model-NAME.svg`` and that the text is included from, ``_generated`` in the book.
    source : path
        Folder of checkpoints: ``NAME.json`` with ``NAME.safetensors`` and the card ``NAME.md`` that training wrote.

    Raises
    ------
    ComputationError
        The weights are not those that the checkpoint names.
    """
    folder, sections = Path(target), []
    for path in sorted(Path(source).glob("*.json")):
        checkpoint = json.loads(path.read_text(encoding="utf-8"))
        payload = checkpoint["payload"]
        curves = {
            f"{part} network": {
                "training": inner["history"]["loss"],
                "validation": inner["history"]["validation_loss"],
            }
            for part, inner in payload.items()
        }
        picture = folder / f"model-{path.stem}.svg"
        write_atomically(picture, plots.loss_curves(curves, ylabel="Loss\n(as trained)").svg())
        sections += [*_card(path.with_suffix(".md")), *_figure(path.stem, picture, payload)]
        sections += [":::{dropdown} File and settings", "```{raw} html", _file_table(path, checkpoint)]
        sections += [_settings_table(payload), "```", ":::", ""]
    return "\n".join(sections)


def _card(path: Path) -> list[str]:
    """The card with its headings one level down, in words that a line can break between."""
    text = re.sub(r"\b(\d+[a-zA-Z])((?:,\1\b)+)", _counted, path.read_text(encoding="utf-8"))
    text = typeset(text).replace("| | |\n", "| what | of this model |\n")
    lines = [line.replace("_", " ") if line.startswith("| energy network:") else line for line in text.splitlines()]
    return [f"#{line}" if line.startswith("#") else line for line in lines] + [""]


def _counted(sites: re.Match[str]) -> str:
    """``"4a,4a"`` as ``"2 × 4a"``."""
    return f"{sites[2].count(',') + 1} × {sites[1]}"


def _figure(name: str, picture: Path, payload: Mapping[str, Any]) -> list[str]:
    epochs = ", ".join(f"{part} {len(inner['history']['loss'])}" for part, inner in payload.items())
    return [
        f"```{{figure}} {picture.parent.name}/{picture.name}",
        f":name: fig-model-{name}",
        f":alt: Training and validation loss of the networks of {name} against epoch, on a logarithmic axis.",
        "",
        f"Training of `{name}`, from the history in its checkpoint. Epochs: {epochs}.",
        "```",
        "",
    ]


def _file_table(path: Path, checkpoint: Mapping[str, Any]) -> str:
    weights = path.with_name(checkpoint["weights"])
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != checkpoint["weights_sha256"]:
        raise ComputationError(f"{weights}: SHA-256 {found}, but {path.name} names {checkpoint['weights_sha256']}")
    rows = [
        ("checkpoint", [f"nanh2lib/data/models/{path.name}, format {checkpoint['format_version']}"]),
        ("weights", [f"{weights.name}, {weights.stat().st_size / 1e6:.1f} MB"]),
        ("SHA-256 of the weights", [found]),
        ("made with", [f"nanh2lib {checkpoint['package_version']}"]),
    ]
    return html_table("The files; the checksum was compared when this page was made.", (), rows)


def _settings_table(payload: Mapping[str, Any]) -> str:
    """Settings by name, one column a network where they were trained with different ones."""
    settings = {part: dict(_flat(inner["settings"])) for part, inner in payload.items()}
    names = list(dict.fromkeys(name for found in settings.values() for name in found))
    rows = [(name, [str(found.get(name, "–")) for found in settings.values()]) for name in names]
    if all(len(set(values)) == 1 for _, values in rows):
        return html_table("Settings of the training.", (), [(name, values[:1]) for name, values in rows])
    return html_table("Settings of the training, by network.", list(settings), rows)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value
