"""Tables of numbers, claims, and plain numbers for JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from nanh2lib.errors import ComputationError, InputError
from nanh2lib.report.html_table import typeset
from nanh2lib.report.numbers import (
    NumberTable,
    check_claims,
    number_table,
    plain_numbers,
    run_words,
    three_columns,
    write_results,
)

RUN = {"profile": "smoke", "seed": 0}


def test_each_table_names_profile_seed_and_potential():
    table = number_table({"alpha": {"E": 1.23456, "n": 3, "none": float("nan")}}, "Energies", **RUN, potential="chgnet")
    assert table.caption == "Energies. (Profile smoke, seed 0, potential chgnet.)"
    assert table.frame.loc["alpha"].tolist() == ["1.23", "3", "–"]
    html = table._repr_html_()
    assert html.count("<figcaption") == 1
    assert html.count('<th scope="row" class="short">alpha</th>') == 1
    assert '<td class="number">1.23</td>' in html
    assert run_words("full", 3) == "profile full, seed 3"
    with pytest.raises(InputError, match="caption"):
        NumberTable(pd.DataFrame(), " ")


def test_printed_recomputed_and_difference_stay_apart():
    rows = {
        "volume (A^3)": (46.37, 46.374),
        "Z": (2, 2),
        "group": ("P2_1", "P1"),
        "energy (eV)": (None, -15.9),
        "gap": (1.0, float("nan")),
    }
    frame = three_columns(rows, "P21212", **RUN, digits=3).frame
    assert list(frame.columns) == ["printed", "recomputed", "difference"]
    assert frame["difference"].tolist() == ["+0.004", "+0", "differs", "–", "–"]
    assert frame.loc["energy (eV)", "printed"] == "–"


def test_claims_that_hold_are_listed_and_others_stop_the_page():
    claims = check_claims({"eight structures": True, "a < b": np.bool_(True)})
    assert claims._repr_html_().count("<li>") == 2
    with pytest.raises(ComputationError, match="1 of 2 claims do not hold: a < b"):
        check_claims({"eight structures": True, "a < b": torch.tensor(False)})
    with pytest.raises(InputError, match="no claims"):
        check_claims({})


def test_plain_numbers_are_json_and_refuse_nan():
    data = {"a": np.float64(1 / 3), "b": torch.arange(3), 1: (True, None, "x", np.int64(4))}
    assert plain_numbers(data, 3) == {"a": 0.333, "b": [0, 1, 2], "1": [True, None, "x", 4]}
    with pytest.raises(ComputationError, match=r"numbers\.a\.1 is nan"):
        plain_numbers({"a": [1.0, float("nan")]})


def test_results_are_written_with_their_run(tmp_path):
    write_results(tmp_path / "new", "01_tables", "smoke", 0, {"volume": {"α": np.float64(47.2984561234)}})
    path = tmp_path / "new" / "01_tables.json"
    assert json.loads(path.read_text()) == {"profile": "smoke", "seed": 0, "volume": {"α": 47.298456}}
    assert [item.name for item in path.parent.iterdir()] == ["01_tables.json"]


@pytest.mark.parametrize(
    ("plain", "printed"),
    [
        ("P2_12_12", "P2₁2₁2"),
        ("S1-P21", "S1-P21"),
        ("NaNH2 and NH2", "NaNH₂ and NH₂"),
        ("46.37 A^3", "46.37 Å³"),
        (">= 2.8 A", "≥ 2.8 Å"),
        ("1.03 +- 0.02 A (text)", "1.03 ± 0.02 Å (text)"),
        ("Table 2 And", "Table 2 And"),
    ],
)
def test_ascii_notation_is_typeset(plain, printed):
    assert typeset(plain) == printed
