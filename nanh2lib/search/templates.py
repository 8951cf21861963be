"""All ways to put Z formula units of rigid units on the Wyckoff sites of a group: counted, ranked, drawn.

A template is a multiset of (unit, Wyckoff letter, orientation mode). Sites without a free
coordinate hold at most one unit in total, whatever its kind; all other sites any number. The
number of templates grows quickly (millions in Pmmm), so they are never listed to be counted: a
dynamic programme counts the completions of each partial choice, which also gives every template
a rank, and with a uniform random rank an exactly uniform draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from nanh2lib.crystal.asymmetric_unit import Site, Template
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import InputError
from nanh2lib.search.allowed_settings import hall_numbers_for_lattice
from nanh2lib.search.capacity import Room, site_capacity

__all__ = [
    "TemplateSpace",
    "count_templates",
    "enumerate_templates",
    "hall_numbers_for_lattice",
    "template_space",
]


@dataclass(frozen=True)
class _Option:
    """One decision: how many units of one kind and orientation mode a Wyckoff site takes.

    ``capacity`` bounds the units on the site over all its options; ``opens_site`` marks the first.
    """

    kind: int
    letter: str
    mode: int
    multiplicity: int
    capacity: int
    opens_site: bool


_State = tuple[int, ...]
"""Units of each kind still to place; units on the current site; sites taken by each kind, up to ``min_units``."""


class TemplateSpace:
    """All templates of one group, compound and number of formula units, ranked 0 to ``count - 1``.

    Parameters
    ----------
    hall_number : int
    compound : Compound
        A chiral unit is used in the handedness given; in groups with improper operations its
        mirror image appears by symmetry.
    z : int
        Formula units in the conventional cell.
    general_only : bool
        General positions alone.
    room : Room, optional
        Bounds from a fixed cell and contact limits (see `site_capacity`): templates that cannot
        hold them are left out.
    min_units : int
        Least number of units of each kind in the asymmetric unit.

    Attributes
    ----------
    count : int
        Number of templates.

    Raises
    ------
    InputError
        ``z`` is not a positive whole number, or the Hall number does not exist.
    """

    def __init__(
        self,
        hall_number: int,
        compound: Compound,
        z: int,
        *,
        general_only: bool = False,
        room: Room | None = None,
        min_units: int = 1,
    ) -> None:
        if isinstance(z, bool) or int(z) != z or z < 1:
            raise InputError(f"z = {z!r} formula units: give a whole number of at least 1")
        self.hall_number = hall_number
        self.compound = compound
        self.z = int(z)
        kinds = len(compound.units)
        self._least = min_units
        self._start: _State = (*(self.z * count for count in compound.counts), 0, *[0] * kinds)
        self._options = _options(SpaceGroup.from_hall(hall_number), compound, self._start[:kinds], general_only, room)
        self._completions: dict[tuple[int, _State], int] = {}
        self._fill()
        self.count = self._ways(0, self._start)

    def _ways(self, index: int, state: _State) -> int:
        if index == len(self._options):
            kinds = len(self.compound.units)
            return int(not any(state[:kinds]) and min(state[kinds + 1 :]) >= self._least)
        return self._completions.get((index, state), 0)

    def _fill(self) -> None:
        """Completions from the last decision back to the first, over all states that can be reached."""
        reachable = [{self._start}]
        for option in self._options:
            reachable.append({rest for state in reachable[-1] for _, rest in self._moves(option, state)})
        for index in range(len(self._options) - 1, -1, -1):
            for state in reachable[index]:
                ways = sum(self._ways(index + 1, rest) for _, rest in self._moves(self._options[index], state))
                if ways:
                    self._completions[index, state] = ways

    def _moves(self, option: _Option, state: _State) -> Iterator[tuple[int, _State]]:
        """How many units the option may take, and what remains; taking none comes first."""
        kinds = len(self.compound.units)
        used = 0 if option.opens_site else state[kinds]
        most = min(state[option.kind] // option.multiplicity, option.capacity - used)
        for taken in range(most + 1):
            rest = list(state)
            rest[option.kind] -= taken * option.multiplicity
            rest[kinds] = used + taken
            counter = kinds + 1 + option.kind
            rest[counter] = min(rest[counter] + taken, self._least)
            yield taken, tuple(rest)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rank: int) -> Template:
        """Template of a rank; the order is fixed by the arguments of the space alone."""
        if not 0 <= rank < self.count:
            raise IndexError(f"template {rank} of {self.count} does not exist")
        state, chosen = self._start, []
        for index, option in enumerate(self._options):
            for taken, rest in self._moves(option, state):
                ways = self._ways(index + 1, rest)
                if rank < ways:
                    chosen += [option] * taken
                    state = rest
                    break
                rank -= ways
        chosen.sort(key=lambda o: (o.kind, -o.multiplicity, o.letter, o.mode))
        sites = tuple(Site(self.compound.units[o.kind], o.letter, o.mode) for o in chosen)
        return Template(self.hall_number, sites)

    def random_rank(self, generator: np.random.Generator) -> int:
        """Rank drawn uniformly."""
        return _uniform_below(self.count, generator)

    def ranks(self, max_count: int | None, generator: np.random.Generator) -> tuple[int, ...]:
        """Ranks in random order: all of them, or ``max_count`` different ones drawn uniformly."""
        if max_count is None or self.count <= max_count:
            return tuple(int(i) for i in generator.permutation(self.count))
        chosen: dict[int, None] = {}
        while len(chosen) < max_count:
            chosen.setdefault(_uniform_below(self.count, generator))
        return tuple(chosen)


def _uniform_below(bound: int, generator: np.random.Generator) -> int:
    """Uniform integer in [0, bound) for bounds of any size."""
    bits = (bound - 1).bit_length()
    while True:
        value = int.from_bytes(generator.bytes((bits + 7) // 8), "little") >> (-bits % 8)
        if value < bound:
            return value


def _options(
    group: SpaceGroup, compound: Compound, totals: Sequence[int], general_only: bool, room: Room | None
) -> tuple[_Option, ...]:
    """Decisions in order: site by site from the most special, there kind by kind and mode by mode."""
    options: list[_Option] = []
    for site in group.wyckoff_sites:
        if site.multiplicity > max(totals) or (general_only and site.letter != group.wyckoff_sites[-1].letter):
            continue
        modes = [len(orientation_modes(unit, group.hall_number, site.letter)) for unit in compound.units]
        fitting = [unit for unit, n in zip(compound.units, modes, strict=True) if n]
        capacity = min(site_capacity(group, site, fitting, room), sum(totals))
        here = [
            _Option(kind, site.letter, mode, site.multiplicity, capacity, False)
            for kind, count in enumerate(modes)
            for mode in range(count)
        ]
        if here and capacity > 0:
            options += [replace(here[0], opens_site=True), *here[1:]]
    return tuple(options)


@lru_cache(maxsize=1024)
def template_space(
    hall_number: int,
    compound: Compound,
    z: int,
    general_only: bool = False,
    room: Room | None = None,
    min_units: int = 1,
) -> TemplateSpace:
    """Cached `TemplateSpace`."""
    return TemplateSpace(hall_number, compound, z, general_only=general_only, room=room, min_units=min_units)


def count_templates(
    hall_number: int, compound: Compound, z: int, *, general_only: bool = False, room: Room | None = None
) -> int:
    """Number of templates, found without listing them.

    Parameters
    ----------
    hall_number : int
    compound : Compound
    z : int
        Formula units in the conventional cell.
    general_only : bool
        General positions alone.
    room : Room, optional
        Leave out templates that a fixed cell has no room for.

    Returns
    -------
    int
        0 where the multiplicities cannot add up to ``z``.
    """
    return template_space(hall_number, compound, z, general_only, room).count


def enumerate_templates(
    hall_number: int,
    compound: Compound,
    z: int,
    max_count: int | None = None,
    *,
    general_only: bool = False,
    room: Room | None = None,
    generator: np.random.Generator | None = None,
) -> tuple[Template, ...]:
    """Templates of a group whose multiplicities add up to ``z`` formula units.

    Parameters
    ----------
    hall_number : int
    compound : Compound
    z : int
        Formula units in the conventional cell.
    max_count : int, optional
        With more templates than this a uniform sample without repeats is drawn.
    general_only : bool
        General positions alone.
    room : Room, optional
        Leave out templates that a fixed cell has no room for.
    generator : numpy.random.Generator, optional
        Needed when a sample has to be drawn.

    Returns
    -------
    tuple of Template
        In order of rank.

    Raises
    ------
    InputError
        There are more than ``max_count`` templates and no generator was given.
    """
    space = template_space(hall_number, compound, z, general_only, room)
    if max_count is None or space.count <= max_count:
        return tuple(space[rank] for rank in range(space.count))
    if generator is None:
        raise InputError(
            f"Hall {hall_number} has {space.count} templates for z = {z}, more than max_count = {max_count}; "
            "give a generator to draw a sample"
        )
    return tuple(space[rank] for rank in sorted(space.ranks(max_count, generator)))
