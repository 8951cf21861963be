"""The committed study of the paper model's open choices, read for figures and tables."""

import json

import pytest

from nanh2lib.errors import InputError
from nanh2lib.report import plots
from nanh2lib.report.sensitivity import COMMAND, sensitivity_study

ALPHA = -18.16


def row(meV, diversity):
    return {"judged_median": ALPHA + meV / 1e3, "judged_error": 0.01, "diversity": diversity, "energy_error": None}


UNIFORM = {"judged_median": ALPHA + 0.55, "judged_error": 0.0, "judged_count": 24}


@pytest.fixture
def path(tmp_path):
    """A base, two weights and two seeds."""
    results = {
        "base = base": row(500.0, 10.0),
        "weight w = 0.0": row(600.0, 11.0), "weight w = 10.0": row(450.0, 4.0),
        "seed = 0": row(500.0, 10.0), "seed = 1": row(520.0, 10.5),
    }  # fmt: skip
    base = {"training": {"epochs": 100, "seed": 0}, "sampling": {"count": 24}}
    data = {"alpha_ev_per_fu": ALPHA, "structures": {"relaxed_fixed": 7}, "base": base, "potential": "chgnet"}
    target = tmp_path / "paper_sensitivity.json"
    target.write_text(json.dumps(data | {"results": results, "uniform": UNIFORM}))
    return target


def test_energies_are_told_above_alpha_and_seeds_are_the_yardstick(path):
    study = sensitivity_study(path)
    assert list(study.groups) == ["weight w", "seed"]
    assert study.base["judged"] == pytest.approx(500.0)
    assert study.base["judged_error"] == pytest.approx(10.0)
    assert study.uniform["judged"] == pytest.approx(550.0)
    assert study.groups["weight w"]["10.0"]["judged"] == pytest.approx(450.0)
    leads = study.leads()
    assert list(leads) == ["weight w = 0.0", "weight w = 10.0", "seed = 0", "seed = 1"]
    assert leads["weight w = 0.0"] == pytest.approx(-5.0)  # 50 meV higher, with an error of 10
    ranges = study.ranges(["judged", "diversity"])
    assert ranges.loc["seed"].tolist() == pytest.approx([20.0, 0.5])
    assert ranges.loc["weight w"].tolist() == pytest.approx([150.0, 7.0])
    assert study.about == "7 crystals, 100 epochs, 24 samples, chgnet, seed 0"
    measures = {"judged": "Energy (meV)", "diversity": "Diversity"}
    plots.choice_panels(study.groups, measures, reference=study.base, log=["diversity"])


@pytest.mark.parametrize("damage", ["no file", "no json", "no base"])
def test_without_the_study_the_command_is_named(path, damage):
    if damage == "no file":
        path.unlink()
    elif damage == "no json":
        path.write_text("{")
    else:
        data = json.loads(path.read_text())
        del data["results"]["base = base"]
        path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=COMMAND):
        sensitivity_study(path)
