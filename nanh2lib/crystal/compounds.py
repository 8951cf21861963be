"""Compounds from YAML: a user's own list of rigid units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from nanh2lib.crystal.rigid_unit import NA, NANH2, NH2, Compound, RigidUnit
from nanh2lib.settings import StageSettings, read_yaml

BUNDLED = {unit.name: unit for unit in (NA, NH2, NANH2)}


class UnitSettings(StageSettings):
    """One kind of unit.

    Attributes
    ----------
    name : str
        A bundled unit (Na, NH2, NaNH2) needs nothing but its name; a single atom is called by
        its element.
    species : tuple of str
        Elements of a molecule's atoms; the reference atom is found by symmetry.
    coords : tuple of (x, y, z)
        Their positions, A, in any frame.
    count : int
        Units per formula unit.
    """

    name: str
    species: tuple[str, ...] = ()
    coords: tuple[tuple[float, float, float], ...] = ()
    count: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> UnitSettings:
        if len(self.species) != len(self.coords):
            raise ValueError(f"unit {self.name!r}: {len(self.species)} species but {len(self.coords)} coords")
        return self

    def unit(self) -> RigidUnit:
        """The rigid unit that the settings describe."""
        if self.species:
            return RigidUnit.from_atoms(self.name, self.species, self.coords)
        return BUNDLED.get(self.name) or RigidUnit(self.name, (self.name,))


class CompoundSettings(StageSettings):
    """A compound: name and units, the anchor of the asymmetric unit first.

    Attributes
    ----------
    name : str
        Formula.
    units : tuple of UnitSettings
        Kinds of rigid unit and how many of each a formula has.
    """

    name: str
    units: tuple[UnitSettings, ...] = Field(min_length=1)


def load_compound(path: str | Path) -> Compound:
    """Compound of a YAML file.

    Parameters
    ----------
    path : path
        For example::

            name: LiNH2
            units:
              - {name: Li}
              - {name: NH2}

    Raises
    ------
    InputError
        The file is missing, is not YAML, has an unknown key, or a unit is no molecule.
    """
    return compound_from_settings(read_compound_settings(path))


def read_compound_settings(path: str | Path) -> CompoundSettings:
    """What a YAML (or JSON) file says of a compound, whether or not its units are molecules."""
    return CompoundSettings.from_mapping(read_yaml(path), str(path))


def compound_from_settings(settings: CompoundSettings) -> Compound:
    """Compound that settings describe."""
    units: tuple[Any, ...] = tuple(unit.unit() for unit in settings.units)
    return Compound(settings.name, units, tuple(unit.count for unit in settings.units))
