"""Arrays of any number type as arrays that ``np.savez`` stores without pickle, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from orchestrator.training.data import Array

_MARK = "@"  # "model/dense/kernel@bfloat16": the integers below are the bits of that type


def pack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """View the types that NumPy does not know (bfloat16, float8) as integers of their size."""
    return dict(_packed(name, array) for name, array in arrays.items())


def unpack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The reverse of :func:`pack`."""
    return dict(_unpacked(name, array) for name, array in arrays.items())


def _packed(name: str, array: Array) -> tuple[str, Array]:
    dtype = array.dtype
    if dtype.kind != "V" or issubclass(dtype.type, np.void):
        return name, array
    return f"{name}{_MARK}{dtype.name}", array.view(f"u{dtype.itemsize}")


def _unpacked(name: str, array: Array) -> tuple[str, Array]:
    base, mark, dtype = name.rpartition(_MARK)
    if not mark:
        return name, array
    import ml_dtypes  # comes with Keras

    known: Any = getattr(ml_dtypes, dtype, None)
    return (name, array) if known is None else (base, array.view(known))
