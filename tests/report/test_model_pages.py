"""The page of model cards is drawn from the checkpoints."""

from __future__ import annotations

import hashlib
import json

import pytest

from nanh2lib.errors import ComputationError
from nanh2lib.report.model_pages import MODELS, models_page


def part(length: int, **settings) -> dict:
    return {"history": {"loss": [1.0] * length, "validation_loss": [1.1] * length}, "settings": settings}


@pytest.fixture
def shelf(tmp_path):
    """A folder with one small checkpoint."""
    weights = b"numbers"
    checkpoint = {
        "format_version": 1,
        "package_version": "0.1.0",
        "weights": "toy.safetensors",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "payload": {
            "noise": part(3, epochs=3, network={"hidden": [64, 64]}),
            "energy": part(2, epochs=2, network={"hidden": [64, 64]}),
        },
    }
    (tmp_path / "toy.json").write_text(json.dumps(checkpoint), encoding="utf-8")
    (tmp_path / "toy.md").write_text("# A toy\n\n| templates | P1[1] Na:1a,1a NH2:1a,2b |\n", encoding="utf-8")
    (tmp_path / "toy.safetensors").write_bytes(weights)
    return tmp_path


def test_a_section_holds_card_curves_files_and_settings(shelf, tmp_path):
    text = models_page(tmp_path, shelf)
    assert text.startswith("## A toy\n")
    assert "Na:2 × 1a NH₂:1a,2b" in text
    assert "Epochs: noise 3, energy 2." in text
    assert (tmp_path / "model-toy.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert hashlib.sha256(b"numbers").hexdigest() in text
    assert "network.hidden" in text
    assert "64, 64" in text
    assert '>epochs</th><td class="number">3</td><td class="number">2</td>' in text


def test_other_weights_than_the_named_ones_make_no_page(shelf, tmp_path):
    (shelf / "toy.safetensors").write_bytes(b"other numbers")
    with pytest.raises(ComputationError, match="SHA-256"):
        models_page(tmp_path, shelf)


def test_every_shipped_checkpoint_has_its_card_and_weights():
    names = {path.stem for path in MODELS.glob("*.json")}
    assert len(names) >= 2
    assert {path.stem for path in MODELS.glob("*.md")} == names == {path.stem for path in MODELS.glob("*.safetensors")}
