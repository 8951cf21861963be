import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

# P2_1 2_1 2 (Z = 2) of Table S1, written out by its four operations; tests/report holds the table itself.
_ORBIT = {"H": (0.2910, 0.9615, 0.8463), "N": (0.5, 1.0, 0.7208), "Na": (0.0, 0.0, 0.4111)}


def _images(x, y, z):
    return [(x, y, z), (-x, -y, z), (0.5 - x, 0.5 + y, -z), (0.5 + x, 0.5 - y, -z)]


@pytest.fixture(scope="session")
def p21212():
    """The published 8-atom crystal of space group P2_1 2_1 2."""
    species, points = [], []
    for symbol, point in _ORBIT.items():
        for image in _images(*point):
            gaps = np.array([np.subtract(image, other) for other in points]).reshape(-1, 3)
            if (np.abs(gaps - np.round(gaps)).max(axis=1) > 1e-3).all():
                species.append(symbol)
                points.append(image)
    return Structure(Lattice.orthorhombic(3.711, 4.710, 5.306), species, points)


@pytest.fixture
def disturbed(p21212):
    """The same with every atom moved by about 0.05 A, so that no symmetry is left."""
    structure = p21212.copy()
    structure.perturb(0.05, seed=3)
    return structure
