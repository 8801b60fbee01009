"""Numbers as people read them: few digits, but every digit of a whole number."""

from __future__ import annotations

# Up to here a float tells every whole number from the next.
_EXACT = 2**53


def rounded(value: float, digits: int) -> str:
    """A number to this many digits; a whole number has all of its own."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return f"{value:.{digits}g}"
