"""Published crystals, read once."""

from functools import lru_cache

import pytest

from nanh2lib.report.published import published_structures, reference_structure

KEYS = ("S1-P21212", "S1-P21c", "S1-Pcca", "S1-P21", "S2-P21c", "S2-P21", "S2-P2c", "S2-Pc", "alpha")


@lru_cache(maxsize=1)
def all_published():
    crystals = {item.key: item.structure for item in published_structures()}
    return crystals | {"alpha": reference_structure("alpha")}


@pytest.fixture(params=KEYS)
def published(request):
    """Each of the eight published structures and alpha, as (key, structure)."""
    return request.param, all_published()[request.param].copy()


@pytest.fixture
def crystals():
    """All nine by key."""
    return all_published()
