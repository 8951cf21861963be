import dataclasses
import gzip

import numpy as np
import pytest

from nanh2lib.errors import InputError
from nanh2lib.store import CandidateStore
from tests.store.conftest import make_candidates, make_relaxation


@pytest.fixture
def full_store(tmp_path):
    store = CandidateStore(tmp_path / "store.db")
    good, bad = make_candidates(3), make_candidates(1, accepted=False, method="two words", prefix='odd "id\\')
    store.add([*good, *bad])
    store.set_energy(good[0].id, "sevennet-0", "h0", -17.123456789012345)
    store.set_failure(good[1].id, "gpaw", 'SCF: "no" \\ end\nnext line', potential_hash="h1")
    store.set_relaxation(good[0].id, "rigid:chgnet", make_relaxation(good[0]), version="v1")
    store.set_failure(good[2].id, "rigid:chgnet", "exploded", version="v1")
    return store


@pytest.mark.parametrize("name", ["all.xyz", "all.xyz.gz"])
def test_what_is_exported_and_imported_is_the_same_store(full_store, tmp_path, name):
    assert full_store.export_extxyz(tmp_path / name) == 4
    other = CandidateStore(tmp_path / "other.db")
    assert other.import_extxyz(tmp_path / name) == 4
    assert other.import_extxyz(tmp_path / name) == 0
    for one, two in zip(full_store.candidates(), other.candidates(), strict=True):
        for field in ("id", "method", "seed", "report", "energies", "failures", "extra"):
            assert getattr(one, field) == getattr(two, field)
        assert one.asymmetric_unit.to_dict() == two.asymmetric_unit.to_dict()
        np.testing.assert_allclose(one.structure.frac_coords, two.structure.frac_coords, atol=1e-12)
        assert (one.structure.lattice.matrix == two.structure.lattice.matrix).all()
        assert one.relaxations.keys() == two.relaxations.keys()
        for key, relaxed in one.relaxations.items():
            again = two.relaxations[key]
            np.testing.assert_allclose(relaxed.structure.frac_coords, again.structure.frac_coords, atol=1e-12)
            assert dataclasses.replace(relaxed, structure=None, fmax=0, max_stress=0, asymmetric_unit=None) == (
                dataclasses.replace(again, structure=None, fmax=0, max_stress=0, asymmetric_unit=None)
            )
        assert full_store.labels(one.id) == other.labels(one.id)
    for key, version in (("h0", ""), ("h1", ""), ("rigid:chgnet", "v1"), ("rigid:chgnet", "v2")):
        assert full_store.pending(key, version) == other.pending(key, version)
    other.export_extxyz(tmp_path / f"again_{name}")
    assert (tmp_path / f"again_{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_the_same_store_gives_the_same_bytes_and_no_leftovers(full_store, tmp_path):
    target = tmp_path / "out" / "all.xyz.gz"
    full_store.export_extxyz(target)
    first = target.read_bytes()
    full_store.export_extxyz(target)
    assert target.read_bytes() == first
    assert first[4:8] == bytes(4)  # no time in the gzip header
    assert [path.name for path in target.parent.iterdir()] == ["all.xyz.gz"]


def test_ase_reads_the_file(full_store, tmp_path):
    import ase.io

    full_store.export_extxyz(tmp_path / "all.xyz.gz")
    frames = ase.io.read(tmp_path / "all.xyz.gz", ":")
    assert [frame.info["frame"] for frame in frames] == ["raw", "rigid:chgnet", "raw", "raw", "raw"]
    assert frames[0].info["ev_per_fu_sevennet_0"] == -17.123456789012345
    assert frames[0].info["record"]["config_hash"] == "1234567890123456"
    assert frames[-1].info["candidate"] == 'odd "id\\0000'
    assert frames[0].get_chemical_formula() == "H4N2Na2"
    assert all(frames[0].pbc)


def test_part_of_a_store(full_store, tmp_path):
    assert full_store.export_extxyz(tmp_path / "part.xyz", accepted=False) == 1


def test_an_export_that_fails_leaves_the_old_file(full_store, tmp_path, monkeypatch):
    target = tmp_path / "all.xyz"
    target.write_text("old")

    def records(numbers):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(full_store, "_records", records)
    with pytest.raises(KeyboardInterrupt):
        full_store.export_extxyz(target)
    assert target.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"store.db", "all.xyz"}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], "frame at line .*: not a frame of an exported store"),
        (lambda text: text.replace("8\n", "9\n", 1), "frame at line 1"),
        (lambda text: text.replace(" record=", " recrod=", 1), "lacks Lattice, candidate, frame or record"),
        (lambda text: text.replace("Na ", "Na nan ", 1), "NaN or infinite"),
        (lambda text: "", "holds no candidate"),
        (lambda text: "hello\nworld\n", "frame at line 1"),
        (lambda text: text + text, "comes twice"),
    ],
)
def test_a_damaged_file_is_named_with_its_line_and_nothing_is_added(full_store, tmp_path, damage, words):
    full_store.export_extxyz(tmp_path / "all.xyz")
    bad = tmp_path / "bad.xyz"
    bad.write_text(damage((tmp_path / "all.xyz").read_text()))
    other = CandidateStore(tmp_path / "other.db")
    with pytest.raises(InputError, match=words):
        other.import_extxyz(bad)
    assert len(other) == 0


def test_missing_and_truncated_archives(full_store, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        full_store.import_extxyz(tmp_path / "nothing.xyz")
    full_store.export_extxyz(tmp_path / "all.xyz.gz")
    (tmp_path / "cut.xyz.gz").write_bytes((tmp_path / "all.xyz.gz").read_bytes()[:-30])
    (tmp_path / "plain.xyz.gz").write_text(gzip.decompress((tmp_path / "all.xyz.gz").read_bytes()).decode())
    for name in ("cut.xyz.gz", "plain.xyz.gz"):
        with pytest.raises(InputError, match="damaged or not a text file"):
            full_store.import_extxyz(tmp_path / name)
