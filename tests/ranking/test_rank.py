import math

import pytest
from pymatgen.core import Lattice, Structure

from nanh2lib.ranking import RankingSettings, rank, rerank
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.report.published import published_structures

KEY = "all_atom:chgnet"


def scaled(number, factor):
    structure = published_structures()[number].structure
    return Structure(Lattice(structure.lattice.matrix * factor), structure.species, structure.frac_coords)


def candidate(name, structure, energy, flags=(), converged=True):
    result = RelaxationResult(structure, "all_atom", "chgnet", energy + 0.1, energy, 10, converged, 1, 1, flags)
    return Candidate(name, structure, "random_search", 0, "0" * 16, "0.1.0", relaxations={KEY: result})


def settings(**changes):
    return RankingSettings(relaxation=KEY, **changes)


def some():
    return [
        candidate("d", scaled(1, 1.0), -18.00),
        candidate("a", scaled(0, 1.0), -18.10),
        candidate("b", scaled(0, 1.001), -18.095),
        candidate("c", scaled(2, 1.0), -17.90, converged=False),
    ]


def test_energy_order_without_duplicates():
    table = rank(some(), settings())
    assert table.frame["id"].tolist() == ["a", "d", "c"]
    assert table.frame["rank"].tolist() == [1, 2, 3]
    assert table.frame["found"].tolist() == [2, 1, 1]
    assert table.frame["mev_above_lowest"].tolist() == pytest.approx([0, 100, 200])
    assert table.frame["converged"].tolist() == [True, True, False]
    assert table.groups == {"a": "a", "b": "a", "c": "c", "d": "d"}
    assert len(table.structures) == 3
    assert table.left_out == ()


def test_order_of_candidates_does_not_matter():
    first, second = rank(some(), settings()), rank(some()[::-1], settings())
    assert first.frame.equals(second.frame)
    assert first.groups == second.groups


@pytest.mark.parametrize("flag", ["broken_fragment", "symmetry_lost", "exploded", "nan_energy"])
def test_an_unusable_relaxation_is_left_out_with_its_reason(flag):
    bad = candidate("x", scaled(0, 0.9), -25.0, flags=(flag,))
    table = rank([*some(), bad], settings())
    assert "x" not in table.frame["id"].tolist()
    assert table.left_out == (("x", flag),)
    assert table.frame["mev_above_lowest"].min() == 0


def test_gained_symmetry_and_missing_numbers():
    gained = candidate("g", scaled(1, 1.2), -18.2, flags=("symmetry_gained",))
    nan = candidate("n", scaled(1, 1.0), math.nan)
    failed = Candidate("f", scaled(1, 1.0), "random_search", 0, "", "", failures={KEY: "it stopped"})
    untouched = Candidate("u", scaled(1, 1.0), "random_search", 0, "", "")
    table = rank([gained, nan, failed, untouched], settings())
    assert table.frame["id"].tolist() == ["g"]
    assert table.frame["flags"].tolist() == ["symmetry_gained"]
    assert dict(table.left_out) == {"n": "energy not finite", "f": "it stopped"}


def test_ties_go_by_volume_then_id():
    wide, narrow = scaled(1, 1.0), scaled(2, 0.9)
    assert narrow.volume / len(narrow) < wide.volume / len(wide)
    table = rank([candidate("a", wide, -18.0005), candidate("z", narrow, -18.0)], settings())
    assert table.frame["id"].tolist() == ["z", "a"]
    apart = rank([candidate("a", wide, -18.0015), candidate("z", narrow, -18.0)], settings())
    assert apart.frame["id"].tolist() == ["a", "z"]
    exact = rank([candidate("a", wide, -18.0005), candidate("z", narrow, -18.0)], settings(tie=0.0))
    assert exact.frame["id"].tolist() == ["a", "z"]


def test_nothing_to_rank():
    table = rank([], settings())
    assert len(table.frame) == 0
    assert table.structures == ()


def test_reranking_reorders_the_top_only():
    table = rank(some(), settings())
    better = rerank(table, "chgnet", top=2, progress=False)
    assert set(better.frame["id"].head(2)) == {"a", "d"}
    assert better.frame["id"].tolist()[2] == "c"
    column = better.frame["ev_per_fu_chgnet"]
    assert column[0] <= column[1] + 1e-3
    assert math.isnan(column[2])
    assert better.frame["mev_above_lowest_chgnet"].min() == 0
    order = better.frame["id"].tolist()
    assert [len(s) for s in better.structures] == [{"a": 8, "d": 16, "c": 32}[key] for key in order]


def test_reranking_leaves_out_what_fails():
    table = rank(some(), settings())
    better = rerank(table, "tests.ranking.test_rank:failing", top=1, progress=False)
    assert better.frame["id"].tolist() == ["d", "c"]
    assert better.frame["rank"].tolist() == [1, 2]
    assert [key for key, _ in better.left_out] == ["a", "b"]
    assert "same crystal as a" in better.left_out[1][1]
    assert len(better.groups) + len(better.left_out) == 4


def failing():
    from ase.calculators.calculator import Calculator

    class Failing(Calculator):
        implemented_properties = ("energy", "forces", "stress")

        def calculate(self, atoms=None, properties=None, system_changes=()):
            raise RuntimeError("no convergence")

    return Failing()


def test_written_files_come_back(tmp_path):
    table = rank(some(), settings(top=2))
    paths = table.write(tmp_path / "tables")
    assert [path.name for path in paths] == ["ranking.csv", "left_out.csv", "rank-01.cif", "rank-02.cif"]
    assert not list((tmp_path / "tables").glob("*.tmp"))
    back = Structure.from_file(tmp_path / "tables" / "rank-01.cif")
    assert back.matches(table.structures[0])
