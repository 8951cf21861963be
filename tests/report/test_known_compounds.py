"""Published crystals of other compounds that ship with the package."""

from __future__ import annotations

import pytest

from nanh2lib.errors import InputError
from nanh2lib.report.known_compounds import KNOWN_COMPOUNDS, known_compound
from tests.crystal.published_compounds import COMPOUNDS

PUBLISHED = {item.name: item for item in COMPOUNDS}


@pytest.mark.parametrize("name", KNOWN_COMPOUNDS)
def test_shipped_crystal_is_the_one_that_the_tests_read_from_its_source(name):
    known, published = known_compound(name), PUBLISHED[name]
    assert known.structure.matches(published.structure(), ltol=1e-6, stol=1e-6, angle_tol=1e-6)
    assert known.structure.lattice.parameters == pytest.approx(published.cell)
    assert known.measured.parameters == pytest.approx(published.measured)
    assert known.measured_source == published.measured_source
    assert published.source.split(", ")[-1] in known.source


def test_unknown_compound_is_refused_with_the_choice():
    with pytest.raises(InputError, match="KNH2"):
        known_compound("LiNH2")
