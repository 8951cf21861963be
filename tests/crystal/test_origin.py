"""Congruences modulo the lattice."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nanh2lib.crystal.hall import primitive_vectors, unique_operations
from nanh2lib.crystal.origin import origin_shifts, solve_congruences

matrices = st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=7)
points = st.tuples(*[st.floats(0, 1)] * 3)


def whole(values):
    return np.abs(values - np.round(values)).max(initial=0.0) < 1e-6


@settings(deadline=None, max_examples=80, derandomize=True)
@given(matrices, points)
def test_every_solution_solves_and_the_given_one_is_among_them(rows, point):
    matrix = np.array(rows)
    point = np.array(point)
    solved = solve_congruences(matrix, matrix @ point, 1e-6)
    assert solved is not None
    for shift in solved.shifts:
        assert whole(matrix @ shift - matrix @ point)
    assert not np.abs(matrix @ solved.directions.T).max(initial=0.0) > 1e-9
    # The point is one of the discrete solutions, slid along the free directions.
    gaps = []
    for shift in solved.shifts:
        gap = point - shift
        if len(solved.directions):
            # Free directions are part of a unimodular basis: integer parts may hide in them.
            gap = gap - solved.directions.T @ (np.linalg.pinv(solved.directions.T) @ gap)
            images = np.array(np.meshgrid(*[range(-8, 9)] * 3)).reshape(3, -1)
            images = images - solved.directions.T @ (np.linalg.pinv(solved.directions.T) @ images)
            gaps.append(np.abs(gap[:, None] - images).max(0).min())
        else:
            gaps.append(np.abs(gap - np.round(gap)).max())
    assert min(gaps) < 1e-6


def test_contradictions_have_no_solution():
    assert solve_congruences(np.array([[2, 0, 0], [4, 0, 0]]), np.array([0.5, 0.3]), 1e-6) is None


def test_origin_choices_of_fddd():
    """From origin choice 1 (222) to 2 (-1): the shift of International Tables, (1/8, 1/8, 1/8) up to the normalizer."""
    first, second = unique_operations(335), unique_operations(336)
    order = [next(i for i, r in enumerate(first[0]) if np.array_equal(r, s)) for s in second[0]]
    solved = origin_shifts(second[0], first[1][order], second[1], primitive_vectors(335))
    assert solved is not None
    assert any(whole(shift - 0.125) or whole(shift + 0.125) for shift in solved.shifts)
