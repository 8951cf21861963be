"""Crystals of rigid units other than NaNH2, from published data, each with its source.

Where a publication at hand gives the cell, the space group and the sites, but not the
coordinates, ``coordinates`` says where those come from.
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

    def structure(self) -> Structure:
        species, coords = zip(*self.sites, strict=True)
        return Structure.from_spacegroup(self.symbol, Lattice.from_parameters(*self.cell), list(species), list(coords))


def cubic(a):
    return (a, a, a, 90.0, 90.0, 90.0)


# CO2: C-O 1.168 A along the body diagonal; NH4Cl: N-D 1.0318 A likewise.
X_CO2 = 1.168 / (3**0.5 * 5.4942)
X_NH4 = 1.0318 / (3**0.5 * 3.8224)

COMPOUNDS = (
    PublishedCrystal(
        name="LiNH2",
        number=82,
        symbol="I-4",
        cell=(5.03442, 5.03442, 10.25558, 90.0, 90.0, 90.0),
        sites=(
            ("Li", (0.0, 0.0, 0.0)),
            ("Li", (0.0, 0.5, 0.25)),
            ("Li", (0.0, 0.5, 0.0042)),
            ("N", (0.2360, 0.2411, 0.1124)),
            ("H", (0.2429, 0.1285, 0.1910)),
            ("H", (0.3840, 0.3512, 0.1278)),
        ),
        units={"Li": (("2a", "-4"), ("2c", "-4"), ("4f", "2")), "NH2": (("8g", "1"),)},
        counts=(1, 1),
        source="J. Yang et al., Appl. Phys. Lett. 88, 041914 (2006): cell, H, N-H 0.986 and 0.942 A",
        coordinates=(
            "H as published; N at the published distances from them, as close as they allow to x = y = 2z = 0.232 of "
            "R. Juza and K. Opp, Z. Anorg. Allg. Chem. 266, 313 (1951); Li on 2a, 2c, 4f (0, 1/2, z) after "
            "H. Jacobs and R. Juza, ibid. 391, 271 (1972)"
        ),
    ),
    PublishedCrystal(
        name="KNH2",
        number=11,
        symbol="P2_1/m",
        cell=(4.586, 3.904, 6.223, 90.0, 95.8, 90.0),
        sites=(("K", (0.2254, 0.25, 0.3092)), ("N", (0.2725, 0.25, 0.7484)), ("H", (0.2975, 0.0466, 0.8542))),
        units={"K": (("2e", "m"),), "NH2": (("2e", "m"),)},
        counts=(1, 1),
        source="R. Juza, H. Jacobs, W. Klose, Z. Anorg. Allg. Chem. 338, 171 (1965): cell, group, sites 2e, Z = 2",
        coordinates="relaxed with CHGNet 0.3.0 in the published cell and space group, H on 4f",
    ),
    PublishedCrystal(
        name="RbND2",
        number=11,
        symbol="P2_1/m",
        cell=(4.846, 4.136, 6.396, 90.0, 98.051, 90.0),
        sites=(("Rb", (0.2162, 0.25, 0.2967)), ("N", (0.2807, 0.25, 0.7468)), ("D", (0.3163, 0.0567, 0.8487))),
        units={"Rb": (("2e", "m"),), "NH2": (("2e", "m"),)},
        counts=(1, 1),
        source="P. Bohger, T. Zeiske, H. Jacobs, Z. Anorg. Allg. Chem. 624, 364 (1998): cell, space group, Z = 2",
        coordinates="relaxed with CHGNet 0.3.0 in the published cell and space group, D on 4f",
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
