"""Points of a scrambled Sobol sequence, without waiting until SciPy is imported.

The first points, however many, are spread evenly over the unit cube. Sources:

* Sobol, "On the distribution of points in a cube and the approximate evaluation of integrals"
  (1967).
* Bratley and Fox, "Algorithm 659: implementing Sobol's quasirandom sequence generator" (1988).
* Matousek, "On the L2-discrepancy for anchored boxes" (1998): scrambled by a random triangular
  matrix and a random shift.

The first direction numbers of a column, for which others have optimised tables, follow from the
seed, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

_BITS = 30  # of a coordinate
_PLACES = np.arange(_BITS)


def sobol_point(seed: int, number: int, columns: Iterable[int]) -> npt.NDArray[np.float64]:
    """The coordinates of one point.

    Args:
        seed: of the sequence.
        number: of the point, from 0.
        columns: which coordinates; each is the same whatever others are asked for.
    """
    return np.array([_coordinate(seed, number, column) for column in columns], dtype=float)


def _coordinate(seed: int, number: int, column: int) -> float:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(column,)))
    code = int(rng.integers(1 << _BITS))
    # The columns of the triangular matrix: where each bit goes, from the lowest.
    images = rng.integers(1 << _PLACES, 2 << _PLACES).tolist()
    for place, direction in enumerate(_directions(column, number.bit_length(), rng)):
        if number >> place & 1:
            for bit in range(_BITS):
                if direction >> bit & 1:
                    code ^= images[bit]
    return code / (1 << _BITS)


def _directions(column: int, count: int, rng: np.random.Generator) -> list[int]:
    """The direction numbers of a column, as many as its polynomial's degree by the seed."""
    if column == 0:
        return [1 << (_BITS - 1 - place) for place in range(count)]
    polynomial = _polynomial(column)
    degree = polynomial.bit_length() - 1
    directions = [
        (2 * int(rng.integers(1 << place)) + 1) << (_BITS - 1 - place) for place in range(degree)
    ]
    for place in range(degree, count):
        direction = directions[place - degree] ^ (directions[place - degree] >> degree)
        for back in range(1, degree):
            if polynomial >> (degree - back) & 1:
                direction ^= directions[place - back]
        directions.append(direction)
    return directions[:count]


def _polynomial(column: int) -> int:
    """The primitive polynomial of a column from 1 on, a bit for each coefficient."""
    before = 0
    for degree in itertools.count(1):
        polynomials = _primitive_polynomials(degree)
        if column <= before + len(polynomials):
            break
        before += len(polynomials)
    return polynomials[column - before - 1]


@cache
def _primitive_polynomials(degree: int) -> list[int]:
    candidates = range((1 << degree) + 1, 2 << degree, 2)
    return [each for each in candidates if _is_primitive(each, degree)]


def _is_primitive(polynomial: int, degree: int) -> bool:
    """Whether the powers of x, modulo the polynomial, are all polynomials of a lower degree."""
    power, order = 1, 0
    while order == 0 or power != 1:
        power <<= 1
        if power >> degree & 1:
            power ^= polynomial
        order += 1
    return order == (1 << degree) - 1
