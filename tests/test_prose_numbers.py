"""Numbers that stand typed in the prose of the pages are those that the package computes."""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from nanh2lib.report.check import TEXT_ANGLES
from nanh2lib.report.dataset import crystals_below
from nanh2lib.report.efficiency import read_study
from nanh2lib.report.measurements import Measurements, measure, space_group_of
from nanh2lib.report.published import published_structures, reference_structure
from nanh2lib.report.reference_energies import reference_energies
from nanh2lib.report.round_trip import sodium_directions
from nanh2lib.store.dataset import gpaw_energies, load_dataset, read_manifest
from tests.golden_values import read_golden
from tests.run_book import ROOT

WHAT_HOLDS = " ".join((ROOT / "book" / "what-holds.md").read_text(encoding="utf-8").split())
CARD = " ".join((ROOT / "nanh2lib" / "data" / "DATASET.md").read_text(encoding="utf-8").split())
NUMBER = r"(\d+(?:\.\d+)?)"


def numbers(sentence: str, text: str = WHAT_HOLDS) -> list[float]:
    """Numbers at the places marked ``#`` of a sentence that must stand in the text."""
    pattern = re.escape(sentence).replace(r"\#", NUMBER)
    found = re.search(pattern, text)
    assert found, f"the page no longer says: {sentence}"
    return [float(group) for group in found.groups()]


@cache
def facts() -> dict[str, Measurements]:
    return {item.key: measure(item.structure) for item in published_structures()}


def test_bonds_of_the_printed_and_of_the_corrected_cell():
    (wrong,) = [item for item in published_structures() if item.key == "S1-P21"]
    as_printed, corrected = measure(wrong.structure_as_printed).n_h, measure(wrong.structure).n_h
    assert numbers("the N–H lengths run from # to # Å and no symmetry is found") == [round(x, 2) for x in as_printed]
    assert numbers("with 90° they are # to # Å") == [round(x, 3) for x in corrected]
    assert space_group_of(wrong.structure_as_printed)[0] == "P1"


def test_angles_outside_the_window_of_the_text():
    angles = {key: np.array(fact.angles) for key, fact in facts().items()}
    outside = {key: int(((a < TEXT_ANGLES[0]) | (a > TEXT_ANGLES[1])).sum()) for key, a in angles.items()}
    assert numbers("Of the # angles # lie outside, all of them below #°") == [
        sum(map(len, angles.values())),
        sum(outside.values()),
        TEXT_ANGLES[0],
    ]
    assert max(a.max() for a in angles.values()) < TEXT_ANGLES[1]
    assert all(outside[key] == len(angles[key]) for key in ("S1-P21212", "S1-Pcca"))
    assert outside["S2-P2c"] > len(angles["S2-P2c"]) / 2


def test_nearest_sodium_of_each_amide():
    found = np.concatenate([sodium_directions(item.structure) for item in published_structures()])
    low, high = found.min(axis=0), found.max(axis=0)
    assert numbers("the nearest Na–N distance runs from # to # Å") == [round(low[0], 2), round(high[0], 2)]
    assert numbers("makes angles between #° and #° with the axis") == [round(low[1]), round(high[1])]


def test_pcca_and_its_higher_symmetry():
    (pcca,) = [item.structure for item in published_structures() if item.key == "S1-Pcca"]
    narrow, wide = numbers("Pcca at a tolerance of # Å, Ibca from # Å on")
    assert [space_group_of(pcca, t)[0] for t in (narrow, wide)] == ["Pcca", "Ibca"]


def test_energies_of_the_published_structures_in_notebook_2():
    source = (ROOT / "notebooks" / "02_dataset.ipynb").read_text(encoding="utf-8").replace("\\n", " ")
    (bound,) = numbers("The published structures lie within # meV of α", source)
    levels = read_golden("smoke", "01_published_tables")["values"]["sevennet_0_mev_above_alpha"]
    assert max(levels.values()) < bound


def test_sizes_on_the_data_card():
    account = read_manifest()["account"]
    assert numbers("Data card: # crystals of NaNH2 with 64 atoms", CARD) == [account["entries"]]
    settings, groups, each = numbers("in # space-group settings of # groups, # different crystals each", CARD)
    assert (settings, groups) == (len(account["settings"]), account["space_groups"])
    assert set(account["settings"].values()) == {each}
    (volume,) = numbers("(# Å³ per formula unit)", CARD)
    alpha_volume = read_golden("smoke", "02_dataset")["values"]["volume_per_formula_unit"]
    assert round(alpha_volume, 1) == volume


def test_crystals_below_alpha_on_the_data_card():
    alpha = reference_structure("alpha")
    zero = reference_energies("gpaw")["alpha"]
    rows = list(crystals_below(load_dataset(), gpaw_energies(), alpha, zero).values())
    low, high = numbers("Two fully relaxed entries lie # to # meV per formula unit below", CARD)
    assert len(rows) == 2
    assert low <= min(row["below"] for row in rows) <= max(row["below"] for row in rows) <= high
    larger, smaller = numbers("(# against # Å³ per formula unit)", CARD)
    assert {round(row["volume"], 1) for row in rows} == {larger}
    assert smaller == round(alpha.volume / 16, 1)


def test_fused_molecules_on_the_data_card():
    flags = read_manifest()["account"]["relaxed_fixed"]["flags"]
    assert flags == {"broken_fragment": 5}
    assert "In five of them two NH2 ran into each other" in CARD


def test_savings_told_in_the_readme():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = numbers("needed # times fewer in P2_1/c and # times fewer in P2_12_12_1", readme)
    told += numbers("(# and # times without these calls)", readme)
    (saving, each) = numbers(
        "needed # times fewer in P2_12_12_1 and hit nothing in P2_1/c, in # relaxations each", readme
    )
    told.append(saving)
    templates = read_study().summary["templates"]
    places = ("P2_1/c", "P2_12_12_1")
    rows = [templates[name][f"geometric held out, {how}"] for how in ("screened", "default") for name in places]
    plain = [templates[name]["random held out, screened"] for name in places]
    assert [row["relaxations"] for row in plain] == [each] * 2
    assert plain[0]["hits"]["a"]["hits"] == 0
    rows.append(plain[1])
    assert told == [round(row["hits"]["a"]["saving"], 1) for row in rows]
    low = templates["P2_12_12_1"]["geometric held out, screened"]["hits"]["c"]
    told = numbers("not so within 50 meV of alpha in P2_12_12_1: # times, # to #", readme)
    assert told == [round(value, 1) for value in (low["saving"], *low["saving_interval"])]
    assert all(row["hits"]["a"]["saving_interval"][0] <= 1 for row in rows)  # "still reach down to no saving"
    assert all(row["hits_training_charged"]["a"]["saving"] < 1 for row in rows)  # "nothing is saved yet"
