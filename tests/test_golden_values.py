"""The comparison with golden values, on small examples."""

from __future__ import annotations

import pytest

from tests.golden_values import differences, tolerance_for

GOLDEN = {
    "values": {"energy": -18.161, "counts": [3, 4], "group": "Fddd", "seconds": 1.0, "ok": True},
    "tolerances": {
        "energy": {"abs": 0.001, "why": "spread over seeds"},
        "seconds": {"any": True, "why": "wall time"},
    },
}


def found(**changes):
    return {**GOLDEN["values"], **changes}


def test_equal_and_within_tolerance():
    assert differences(found(), GOLDEN) == []
    assert differences(found(energy=-18.1615, seconds=99.0), GOLDEN) == []


@pytest.mark.parametrize(
    "change",
    [
        {"energy": -18.163},
        {"energy": float("nan")},
        {"energy": None},
        {"counts": [3, 5]},
        {"counts": [3]},
        {"group": "P2_1"},
        {"seconds": float("inf")},
        {"ok": False},
        {"ok": 1},
        {"new": 1},
    ],
    ids=str,
)
def test_any_other_change_is_named(change):
    lines = differences(found(**change), GOLDEN)
    assert lines
    assert all(line.split(":")[0].split(".")[0] in change for line in lines)


@pytest.mark.parametrize(("spread", "allowed"), [(0.4, 0.2), (0.0, 0.01), (None, 0.01)])
def test_a_share_of_the_measured_spread_is_allowed_or_else_the_floor(spread, allowed):
    rule = {"share": 0.5, "abs": 0.01, "why": "half the spread; rounding"}
    golden = {
        "values": {"loss": 1.0},
        "tolerances": {"loss": rule},
        "spread": {} if spread is None else {"loss": spread},
    }
    assert tolerance_for("loss", golden) == {"abs": allowed}
    assert differences({"loss": 1.0 + 0.99 * allowed}, golden) == []
    assert differences({"loss": 1.0 + 1.01 * allowed}, golden)


@pytest.mark.parametrize(("spread", "allowed"), [({}, 0.3), ({"loss": 0.1}, 0.05), ({"loss": 0.0}, 0.01)])
def test_what_is_allowed_until_the_spread_is_measured_counts_no_more_afterwards(spread, allowed):
    rule = {"share": 0.5, "until": 0.3, "abs": 0.01, "why": "half the spread; rounding"}
    golden = {"values": {"loss": 1.0}, "tolerances": {"loss": rule}, "spread": spread}
    assert tolerance_for("loss", golden) == {"abs": allowed}
