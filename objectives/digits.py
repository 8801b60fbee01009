"""The same network on scikit-learn's bundled 8x8 digits, which need no network connection."""

from __future__ import annotations

from typing import ClassVar

from .mnist import Mnist


class Digits(Mnist):
    """See :class:`Mnist`; the input follows the data."""

    default_data: ClassVar[str] = "digits"
