"""Proposals of the geometric model in the printed cells of Table S2, as shipped and after learning from a cell."""

from __future__ import annotations

import pytest
import torch

from benchmarks.published_tables import modelling
from benchmarks.published_tables.searching import Task, failed_row, random_starts
from benchmarks.published_tables.settings import SEARCH_COLUMNS, read_rows
from benchmarks.search_efficiency.tables import append_row
from nanh2lib.crystal.expansion import expand
from nanh2lib.errors import InputError
from nanh2lib.pipeline.run import write_json
from nanh2lib.records import RelaxationResult
from nanh2lib.report.published import published_structure
from nanh2lib.validation.contacts import contact_filter


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(modelling, "PROPOSED", 1)
    monkeypatch.setattr(modelling, "DRAWN", 2)
    monkeypatch.setattr(modelling, "TEACHING", {**modelling.TEACHING, "potential_epochs": 1, "score_epochs": 1})


def _task(folder, method="model"):
    return Task("S2-P21c", "printed", method, 0, folder, folder / "work")


def test_proposals_stand_in_the_printed_cell_and_keep_the_limits(tmp_path):
    (number, unit), *rest = modelling.model_starts(_task(tmp_path), 1)
    assert (number, rest) == (0, [])
    item = published_structure("S2-P21c")
    assert unit.hall_number == item.hall_number
    cell = torch.as_tensor(item.corrected.lattice_parameters)
    assert torch.allclose(unit.lattice_parameters[0], cell.to(unit.lattice_parameters))
    assert contact_filter(unit).all()
    with pytest.raises(InputError, match="printed cell only"):
        list(modelling.model_starts(Task("S2-P21c", "free", "model", 0, tmp_path, tmp_path), 1))


def test_networks_learn_from_the_searches_of_their_cell_once(tmp_path):
    search, task = _task(tmp_path, "random_search"), _task(tmp_path, modelling.model_method(2))
    with pytest.raises(InputError, match="0 relaxations of S2-P21c in the printed cell, 2 wanted"):
        modelling.taught(task, 2)
    for number, unit in random_starts(search, 2):
        end = RelaxationResult(expand(unit)[0], "rigid_fixed", "chgnet", -18.0, -18.0, 1, True, 14, 14,
                               asymmetric_unit=unit)  # fmt: skip
        write_json(search.work / f"{search.identity(number)}.json", end.to_dict())
        row = {**failed_row(search, number, unit, ""), "energy_final": -18.0, "converged": True}
        append_row(search.table, SEARCH_COLUMNS, row)
    first = modelling.taught(task, 2)
    entry = read_rows(tmp_path / "models.json")["rows"]["S2-P21c-2"]
    assert entry["crystals"] == 2
    assert entry["ended_elsewhere"] == 0
    assert entry["evaluations"] == 8  # start, end and two shaken copies of each
    again = modelling.taught(task, 2)
    pairs = zip(first.score.network.parameters(), again.score.network.parameters(), strict=True)
    assert all(bool((one == two).all()) for one, two in pairs)
