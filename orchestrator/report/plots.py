"""Small plots of characters, for a terminal: braille dots, two wide and four high a character."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.numbers import rounded
from orchestrator.report.arithmetic import finite, share
from orchestrator.report.words import number

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column, then row
_BLANK = 0x2800
_BARS = "▁▂▃▄▅▆▇█"
_LONGEST = 1e12  # a label is not written out beyond


class Plot:
    """A field of dots with its values at the left.

    Args:
        low: the value at the bottom.
        high: the value at the top.
        columns: characters.
        rows: characters.
    """

    def __init__(self, low: float, high: float, columns: int, rows: int) -> None:
        if low == high:
            low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
        self._low, self._high = finite(low), finite(high)
        self._columns, self._rows = columns, rows
        self._cells = [[0] * columns for _ in range(rows)]

    def dot(self, along: float, value: float) -> None:
        """A dot at a share of the width; a value outside lies on the edge."""
        if not math.isfinite(value):
            return
        x = round(min(1.0, max(0.0, along)) * (self._columns * 2 - 1))
        y = round((1 - share(value, self._low, self._high)) * (self._rows * 4 - 1))
        self._cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]

    def steps(self, points: Sequence[tuple[float, float]], until: float = 1.0) -> None:
        """A line that keeps its height from one point to the next: ``(share, value)``."""
        ends = [along for along, _ in points[1:]] + [until]
        for (along, value), end in zip(points, ends, strict=True):
            count = max(1, math.ceil((end - along) * self._columns * 2))
            for each in range(count):
                self.dot(along + each / (self._columns * 2), value)

    def lines(self) -> list[str]:
        """The plot, a line a row."""
        span = self._high - self._low
        labels = {0: _label(self._high, span), self._rows - 1: _label(self._low, span)}
        width = max(map(len, labels.values()))
        drawn = ["".join(chr(_BLANK + cell) for cell in cells) for cells in self._cells]
        return [
            f"{labels.get(row, ''):>{width}} ┤{line}".rstrip(chr(_BLANK))
            for row, line in enumerate(drawn)
        ]


def _label(value: float, span: float) -> str:
    """An end of the axis, told from the other end and from the values beside it."""
    size = abs(value)
    if size >= _LONGEST:
        return f"{value:.5g}"
    if size < 1e5 or not 0 < span < math.inf:
        return number(value)
    digits = math.ceil(math.log10(size)) + max(0, 1 - math.floor(math.log10(span)))
    return rounded(value, min(digits, 12))


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """A character a value; a blank where there is none."""

    def bar(value: float | None) -> str:
        if value is None:
            return " "
        return _BARS[round(share(value, low, high) * (len(_BARS) - 1))]

    return "".join(map(bar, values))
