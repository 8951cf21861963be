"""Pictures of crystals: alt text never empty, molecules whole, files complete."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from pymatgen.core import Lattice, Structure

from nanh2lib.errors import InputError, MissingDependencyError
from nanh2lib.report import views
from nanh2lib.report.display import Picture, ThemedFigure
from nanh2lib.report.drawing import Camera, drawn_atoms
from nanh2lib.report.molecules import find_bonds, find_molecules, whole_molecules
from nanh2lib.report.published import published_structure, published_structures, reference_structure
from nanh2lib.report.render import Scene, Window, render

STRUCTURES = published_structures()
KEYS = [item.key for item in STRUCTURES]


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


@pytest.mark.parametrize("item", STRUCTURES, ids=KEYS)
def test_every_nh2_is_whole(item):
    whole = whole_molecules(item.structure)
    found = find_molecules(item.structure)
    assert len(find_bonds(item.structure)) == 2 * item.z
    assert found.molecule.max() + 1 == 2 * item.z
    assert all(bond.image == (0, 0, 0) for bond in found.bonds)
    for bond in found.bonds:
        distance = np.linalg.norm(whole[bond.first].coords - whole[bond.second].coords)
        assert 0.95 < distance < 1.12
    gap = whole.frac_coords - item.structure.frac_coords
    assert np.abs(gap - np.round(gap)).max() < 1e-9


def test_atoms_on_a_face_are_drawn_on_both_sides():
    item = published_structure("S1-P21212").structure
    drawn = drawn_atoms(item)
    assert len(drawn.sites) > len(item)
    sodium = [x for x, site in zip(drawn.frac_coords, drawn.sites, strict=True) if item[site].specie.symbol == "Na"]
    assert sum(np.allclose(x[:2], corner) for x in sodium for corner in np.ndindex(2, 2)) == 4
    assert len(drawn.bonds) * 3 == 2 * sum(item[site].specie.symbol != "Na" for site in drawn.sites)


@pytest.mark.parametrize("item", STRUCTURES, ids=KEYS)
def test_alt_text_says_what_is_drawn(item):
    text = views.alt_text(item)
    assert item.space_group in text
    assert f"{item.z} formula units" in text
    assert "orange" in text
    assert "NaNH2" in text


def test_alt_text_is_never_empty():
    with pytest.raises(InputError, match="alt text"):
        views.show(STRUCTURES[0], alt=" ", live=False, width=120)
    with pytest.raises(InputError, match="alt text"):
        Picture(b"", "")
    with pytest.raises(InputError, match="alt text"):
        ThemedFigure(b"", b"", "\n")
    broken = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    assert "no space group" in views.alt_text(broken)


def test_picture_shows_the_crystal_in_its_colours(tmp_path):
    png = views.structure_png(STRUCTURES[1], tmp_path / "deep" / "x.png", width=300)
    assert (tmp_path / "deep" / "x.png").read_bytes() == png
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.png"]
    image = pixels(png)
    assert image.shape[1] == 600
    assert (image[0, 0] == 255).all()
    red, _, blue = image[..., 0], image[..., 1], image[..., 2]
    assert (red - blue > 60).mean() > 0.02, "orange sodium"
    assert (blue - red > 60).mean() > 0.01, "blue nitrogen"


def test_show_gives_a_figure_with_escaped_alt_and_caption():
    picture = views.show(reference_structure(), caption="a < b & c", alt='the "alpha" phase', live=False, width=200)
    html = picture._repr_html_()
    assert 'alt="the &quot;alpha&quot; phase"' in html
    assert "<figcaption>a &lt; b &amp; c</figcaption>" in html
    assert "data:image/png;base64," in html
    assert "http" not in html.replace("https://", "http")
    assert picture.live is None


def test_live_view_holds_whole_molecules_cell_and_orientation():
    pytest.importorskip("nglview")
    picture = views.show(published_structure("S1-P21c"), width=200)
    sent = picture.live._ngl_msg_archive
    names = [message["methodName"] for message in sent]
    assert "set_camera_orientation" in names
    assert "addShape" in names
    selections = {m["kwargs"].get("sele") for m in sent if m["methodName"] == "addRepresentation"}
    assert {"_NA", "_N", "_H"} <= selections
    assert "http" not in json.dumps(sent)
    assert "nanh2-live" in picture._repr_html_()


def test_pdb_text_keeps_distances_in_standard_axes():
    item = published_structure("S1-P21c").structure
    lines = [line for line in views.pdb_text(item).splitlines() if line.startswith("HETATM")]
    atoms = [
        (line[12:16].strip(), np.array([float(line[30:38]), float(line[38:46]), float(line[46:54])])) for line in lines
    ]
    residues = [int(line[22:26]) for line in lines]
    assert [name for name, _ in atoms].count("NA") == 4
    for residue in set(residues):
        members = [atom for atom, number in zip(atoms, residues, strict=True) if number == residue]
        nitrogen = [place for name, place in members if name == "N"]
        hydrogen = [place for name, place in members if name == "H"]
        assert len(hydrogen) == 2 * len(nitrogen)
        for place in hydrogen:
            assert np.linalg.norm(place - nitrogen[0]) == pytest.approx(1.038, abs=0.01)


def test_without_nglview_the_picture_stands_alone_and_says_how_to_get_it(monkeypatch):
    def missing(*args, **kwargs):
        raise MissingDependencyError("live views need nglview")

    monkeypatch.setattr(views, "live_view", missing)
    picture = views.show(STRUCTURES[0], width=120)
    assert picture.live is None
    assert "nanh2lib[book]" in picture.caption


def test_film_strip_has_one_frame_each_and_names_them():
    frames = [reference_structure()] * 3
    strip = views.film_strip(frames, labels=["t = 9", "t = 5", "t = 0"], width=240)
    assert "3 frames (t = 9, t = 5, t = 0)" in strip.alt
    with pytest.raises(InputError, match="no frames"):
        views.film_strip([])
    with pytest.raises(InputError, match="one label for each"):
        views.film_strip(frames, labels=["one"])
    assert views.step_frames(list(range(11)), 3) == [0, 5, 10]


def test_gallery_offers_cifs_and_comparison():
    shown = views.gallery({item.key: item for item in STRUCTURES[:2]}, notes={"S1-P21c": "46 meV"}, width=120)
    html = shown._repr_html_()
    assert html.count("<img ") == 2
    assert html.count("<select ") == 2
    assert 'download="S1-P21c.cif"' in html
    assert "46 meV" in html
    assert html.count('alt="Ball-and-stick') == 2
    with pytest.raises(InputError, match="no crystal is called"):
        views.gallery({"one": STRUCTURES[0]}, notes={"two": ""})


def test_camera_turns_the_axis_to_the_viewer():
    structure = published_structure("S1-Pcca").structure
    rotation = Camera(along="c", turn=0, tilt=0).rotation(structure)
    assert rotation @ rotation.T == pytest.approx(np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.abs(rotation[2] @ structure.lattice.matrix[2]) == pytest.approx(structure.lattice.c)
    with pytest.raises(InputError, match="no axis"):
        Camera(along="d").axis(structure)


def test_nearer_objects_hide_farther_ones():
    red, blue = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    window = Window(-2.0, -2.0, 40, 40, 10.0)
    for order in (1, -1):
        spheres = [(np.array([0, 0, 1.0]), 1.0, red), (np.array([0, 0, -1.0]), 1.5, blue)][::order]
        image = render(Scene(spheres=spheres), window, np.ones(3))
        assert image[20, 20, 0] > image[20, 20, 2]
        assert image[20, 7, 2] > image[20, 7, 0]
        assert image[0, 0] == pytest.approx(np.ones(3))


def test_a_stick_has_its_length_and_width():
    stick = (np.array([-1.0, 0, 0]), np.array([1.0, 0, 0]), 0.3, np.array([1.0, 0, 0]))
    image = render(Scene(sticks=[stick]), Window(-2.0, -2.0, 80, 80, 20.0), np.ones(3))
    drawn = (image < 0.99).any(-1)
    assert np.ptp(np.flatnonzero(drawn.any(0))) == pytest.approx(40, abs=2)
    assert np.ptp(np.flatnonzero(drawn.any(1))) == pytest.approx(12, abs=2)


def test_frames_stand_three_in_a_row_four_as_a_square_and_scroll_on_a_narrow_page():
    crystal = published_structure("S1-P21212").structure
    heights = {}
    for count in (3, 4, 5):
        strip = views.film_strip([crystal] * count, labels=[f"t = {k}" for k in range(count)])
        with Image.open(io.BytesIO(strip.png)) as picture:
            heights[count] = picture.height
        assert 'class="nanh2-strip"' in strip._repr_html_()
    assert heights[4] > heights[5] > heights[3]


def test_a_picture_beside_a_live_view_is_narrower_so_that_its_letters_stay_readable():
    crystal = published_structure("S1-P21212")
    assert views.show(crystal, live=False).width == 560
    assert views.show(crystal).width == 360
