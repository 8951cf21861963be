"""What a random search covers: settings, the space-group settings they mean, and the templates of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, field_validator

from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE, Compound
from nanh2lib.crystal.space_group import SpaceGroup, hall_number_from_symbol, hall_numbers_for
from nanh2lib.errors import InputError
from nanh2lib.search.allowed_settings import hall_numbers_for_lattice, same_up_to_origin
from nanh2lib.search.capacity import Room
from nanh2lib.search.lattice_prior import LatticePrior
from nanh2lib.search.push_apart import PushApartSettings
from nanh2lib.search.templates import TemplateSpace, template_space
from nanh2lib.settings import StageSettings


class SearchSettings(StageSettings):
    """What is searched.

    Attributes
    ----------
    z : int
        Formula units in the conventional cell.
    lattice : LatticePrior
        Default: the fixed cell of alpha-NaNH2.
    space_groups : tuple of int or str
        International numbers or symbols; every setting of them that the lattice allows is
        searched. A symbol of one setting (``"F2dd"``) or ``"hall:213"`` means that one. Empty: all
        groups that the lattice allows.
    per_setting : int
        Accepted candidates wanted from each setting.
    max_draws_per_setting : int
        Draws after which a setting is given up with what it has.
    general_only : bool
        General positions alone (no special ones).
    general_share : float
        This fraction of the draws takes general positions alone, where they add up to Z; the
        others draw uniformly from all templates. Templates crowded with special positions are
        many and often have no room, so a uniform draw alone would rarely show the general ones.
    min_units : int
        Least number of units of each kind in the asymmetric unit.
    pair_limits : mapping
        ``"Na-N": 2.1`` and so on, A; empty means the limits for NaNH2 (other pairs: a fraction of
        the van der Waals radii).
    limit_scale : float
        Factor on all contact limits.
    push : PushApartSettings
    batch_size : int
        Crystals pushed apart together, at most.
    seed : int
    """

    z: int = Field(default=16, ge=1)
    lattice: LatticePrior = Field(default_factory=LatticePrior)
    space_groups: tuple[int | str, ...] = ()
    per_setting: int = Field(default=10, ge=1)
    max_draws_per_setting: int = Field(default=400, ge=1)
    general_only: bool = False
    general_share: float = Field(default=0.5, ge=0, le=1)
    min_units: int = Field(default=1, ge=1)
    pair_limits: Mapping[str, float] = Field(default_factory=dict)
    limit_scale: float = Field(default=1.0, gt=0)
    push: PushApartSettings = Field(default_factory=PushApartSettings)
    batch_size: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("pair_limits")
    @classmethod
    def _pairs(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        PairLimits.from_names(value)
        return value

    def limits(self) -> PairLimits:
        """Contact limits by element pair."""
        if not self.pair_limits:
            return REALISTIC_LIMITS.scaled(self.limit_scale)
        return PairLimits.from_names(self.pair_limits).scaled(self.limit_scale)

    def templates(self, hall_number: int, compound: Compound, *, general_only: bool | None = None) -> TemplateSpace:
        """Templates of a setting; in a fixed cell those that it has no room for are left out."""
        room = None
        if self.lattice.kind == "fixed":
            room = Room(tuple(self.lattice.parameters), self.limits())
        general = self.general_only if general_only is None else general_only
        return template_space(hall_number, compound, self.z, general, room, self.min_units)


@dataclass(frozen=True)
class SettingPlan:
    """One space-group setting of a search.

    Attributes
    ----------
    hall_number : int
    symbol : str
    templates : int
        Site templates that add up to Z formula units and for which a fixed cell has room.
    """

    hall_number: int
    symbol: str
    templates: int


def searched_settings(settings: SearchSettings) -> tuple[int, ...]:
    """Hall numbers of a search.

    Raises
    ------
    InputError
        A group does not exist, or the lattice does not allow any setting of it.
    """
    lattice = settings.lattice
    if not settings.space_groups:
        if lattice.kind == "fixed":
            return hall_numbers_for_lattice(lattice.parameters)
        return tuple(h for h in range(1, 531) if same_up_to_origin(h) == h and lattice.allows(h))
    chosen: dict[int, None] = {}
    for group in settings.space_groups:
        allowed = [hall for hall in _halls_named(group) if lattice.allows(hall)]
        if not allowed:
            cell = list(lattice.parameters) if lattice.kind == "fixed" else f"the lattice prior ({lattice.kind})"
            raise InputError(
                f"space_groups: {group!r} does not fit the cell {cell}; leave it out or change the lattice"
            )
        chosen.update(dict.fromkeys(allowed))
    return tuple(chosen)


def _halls_named(group: int | str) -> list[int]:
    text = str(group)
    if text.startswith("hall:"):
        number = text.removeprefix("hall:")
        if not number.isdigit():
            raise InputError(f"space_groups: {group!r}: write a Hall number like hall:213")
        return [SpaceGroup.from_hall(int(number)).hall_number]
    if text.isdigit():
        halls = hall_numbers_for(int(text))
    else:
        first = hall_number_from_symbol(text)
        number_of = SpaceGroup.from_hall(first).number
        # The symbol of a standard setting stands for the group, that of another for itself.
        halls = hall_numbers_for(number_of) if first == hall_numbers_for(number_of)[0] else (first,)
    return [hall for hall in halls if same_up_to_origin(hall) == hall]


def plan_search(settings: SearchSettings, compound: Compound = SODIUM_AMIDE) -> tuple[SettingPlan, ...]:
    """Settings of a search and how many site templates each has; look at it before the run.

    Raises
    ------
    InputError
        See `searched_settings`.
    """
    return tuple(
        SettingPlan(hall, SpaceGroup.from_hall(hall).symbol, settings.templates(hall, compound).count)
        for hall in searched_settings(settings)
    )
