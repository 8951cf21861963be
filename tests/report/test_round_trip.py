"""Losses of encoding: none in scheme split beyond the shape of NH2, some in scheme paper, refusals with reasons."""

from __future__ import annotations

import numpy as np
import pytest

from nanh2lib.report.published import published_structure, published_structures, reference_structure
from nanh2lib.report.round_trip import round_trip, sodium_directions


@pytest.mark.parametrize("key", ["S1-P21212", "S2-P21", "alpha"])
def test_split_loses_the_shape_of_nh2_only(key):
    crystal = reference_structure("alpha") if key == "alpha" else published_structure(key).structure
    trip = round_trip(crystal, "split")
    assert trip.rigid_error < 1e-10
    assert trip.error.max_heavy < 1e-10
    assert trip.error.max_hydrogen < 0.05
    assert trip.length == (78 if key == "S2-P21" else 15)


def test_paper_is_lossy_or_refuses():
    trip = round_trip(published_structure("S1-P21c").structure, "paper")
    assert trip.error.rms == pytest.approx(0.259, abs=0.01)
    assert trip.length == 12
    refused = round_trip(published_structure("S1-P21212").structure, "paper")
    assert refused.decoded is None
    assert "use scheme 'split'" in refused.refused


def test_nearest_sodium_is_not_at_one_place_of_nh2():
    found = np.concatenate([sodium_directions(item.structure) for item in published_structures()])
    assert found[:, 0].min() == pytest.approx(2.34, abs=0.01)
    assert found[:, 0].max() == pytest.approx(2.48, abs=0.01)
    assert found[:, 1].min() == pytest.approx(92, abs=1)
    assert found[:, 1].max() == pytest.approx(180, abs=1)
