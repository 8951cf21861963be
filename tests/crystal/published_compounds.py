"""Crystals of rigid units other than NaNH2, from published coordinates, each with its source.

The three alkali amides are computed structures of a public database, urea, CO2 and NH4Cl measured ones.
Where one number stands for several (a bond length for a coordinate), ``coordinates`` says so.
"""

from dataclasses import dataclass

from pymatgen.core import Lattice, Structure


@dataclass(frozen=True)
class PublishedCrystal:
    name: str
    number: int
    symbol: str
    cell: tuple[float, float, float, float, float, float]
    sites: tuple[tuple[str, tuple[float, float, float]], ...]
    # unit name -> Wyckoff labels and site symmetries expected
    units: dict[str, tuple[tuple[str, str], ...]]
    counts: tuple[int, ...]
    source: str
    coordinates: str = "as published"
    measured: tuple[float, float, float, float, float, float] | None = None
    measured_source: str = ""

    def structure(self) -> Structure:
        species, coords = zip(*self.sites, strict=True)
        return Structure.from_spacegroup(self.symbol, Lattice.from_parameters(*self.cell), list(species), list(coords))


def cubic(a):
    return (a, a, a, 90.0, 90.0, 90.0)


# CO2: C-O 1.168 A along the body diagonal; NH4Cl: N-D 1.0318 A likewise.
X_CO2 = 1.168 / (3**0.5 * 5.4942)
X_NH4 = 1.0318 / (3**0.5 * 3.8224)

# The alkali amides: all coordinates from one public database, A. Togo's phonon database at Kyoto University (version of
# 17 April 2018, CC BY 4.0): cell and positions of the Materials Project entry named in `source`, relaxed there with
# PBEsol (VASP, forces to 1e-8 eV/A). `measured` is an experiment's cell: nobody shall take another phase for this one.
TOGO = "phonon database of Kyoto University, 2018-04-17 (CC BY 4.0), PBEsol, {}"

COMPOUNDS = (
    PublishedCrystal(
        name="LiNH2",
        number=82,
        symbol="I-4",
        cell=(4.88765, 4.88765, 10.21387, 90.0, 90.0, 90.0),
        sites=(
            ("Li", (0.0, 0.0, 0.0)),
            ("Li", (0.0, 0.5, 0.25)),
            ("Li", (0.0, 0.0, 0.24221431)),
            ("N", (0.26512839, 0.24484942, 0.63298807)),
            ("H", (0.07335170, 0.33054262, 0.62389347)),
            ("H", (0.26911944, 0.10462116, 0.55735843)),
        ),
        units={"Li": (("2a", "-4"), ("2c", "-4"), ("4e", "2")), "NH2": (("8g", "1"),)},
        counts=(1, 1),
        source=TOGO.format("mp-23702"),
        measured=(5.03442, 5.03442, 10.25558, 90.0, 90.0, 90.0),
        measured_source="J. Yang et al., Appl. Phys. Lett. 88, 041914 (2006), neutrons",
    ),
    PublishedCrystal(
        name="KNH2",
        number=11,
        symbol="P2_1/m",
        cell=(4.58105, 3.73091, 6.17744, 90.0, 97.846, 90.0),
        sites=(
            ("K", (0.28712303, 0.25, 0.69019945)),
            ("N", (0.21100185, 0.25, 0.23447678)),
            ("H", (0.17734646, 0.46340049, 0.12674080)),
        ),
        units={"K": (("2e", "m"),), "NH2": (("2e", "m"),)},
        counts=(1, 1),
        source=TOGO.format("mp-24428"),
        measured=(4.586, 3.904, 6.223, 90.0, 95.8, 90.0),
        measured_source="R. Juza, H. Jacobs, W. Klose, Z. Anorg. Allg. Chem. 338, 171 (1965), X-rays",
    ),
    PublishedCrystal(
        name="RbND2",
        number=11,
        symbol="P2_1/m",
        cell=(4.81878, 3.93311, 6.38620, 90.0, 99.493, 90.0),
        sites=(
            ("Rb", (0.20417179, 0.75, 0.30354193)),
            ("N", (0.29331732, 0.75, 0.76915844)),
            ("D", (0.33753103, 0.54710059, 0.87271284)),
        ),
        units={"Rb": (("2e", "m"),), "NH2": (("2e", "m"),)},
        counts=(1, 1),
        source=TOGO.format("mp-697144"),
        coordinates="as published for RbNH2; mass does not enter that calculation, so D is written for H",
        measured=(4.846, 4.136, 6.396, 90.0, 98.051, 90.0),
        measured_source="P. Bohger, T. Zeiske, H. Jacobs, Z. Anorg. Allg. Chem. 624, 364 (1998), RbND2, neutrons",
    ),
    PublishedCrystal(
        name="urea",
        number=113,
        symbol="P-42_1m",
        cell=(5.565, 5.565, 4.684, 90.0, 90.0, 90.0),
        sites=(
            ("C", (0.0, 0.5, 0.3260)),
            ("O", (0.0, 0.5, 0.5953)),
            ("N", (0.1459, 0.6459, 0.1766)),
            ("H", (0.2575, 0.7575, 0.2827)),
            ("H", (0.1441, 0.6441, -0.0380)),
        ),
        units={"CH4N2O": (("2c", "mm2"),)},
        counts=(1,),
        source="S. Swaminathan, B. M. Craven, R. K. McMullan, Acta Cryst. B40, 300 (1984), neutrons, 12 K",
    ),
    PublishedCrystal(
        name="CO2",
        number=205,
        symbol="Pa-3",
        cell=cubic(5.4942),
        sites=(("C", (0.0, 0.0, 0.0)), ("O", (X_CO2, X_CO2, X_CO2))),
        units={"CO2": (("4a", "-3"),)},
        counts=(1,),
        source="R. T. Downs, M. S. Somayazulu, Acta Cryst. C54, 897 (1998), 1.00 GPa: cell, C-O 1.168 A",
        coordinates="C on 4a, O on 8c at the published bond length",
    ),
    PublishedCrystal(
        name="NH4Cl",
        number=215,
        symbol="P-43m",
        cell=cubic(3.8224),
        sites=(("N", (0.0, 0.0, 0.0)), ("Cl", (0.5, 0.5, 0.5)), ("H", (X_NH4, X_NH4, X_NH4))),
        units={"Cl": (("1b", "-43m"),), "NH4": (("1a", "-43m"),)},
        counts=(1, 1),
        source="A. Alavi et al., Can. J. Chem. 76, 1581 (1998), ND4Cl, neutrons, 5 K: cell, N-D 1.0318 A",
        coordinates="N on 1a, Cl on 1b, H on 4e at the published bond length",
    ),
)
