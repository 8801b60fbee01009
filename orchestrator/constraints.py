"""Constraints: user attributes that must be 0 or less (``study.constraints``).

``orch.able_trials`` in ``trials.sql`` has the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def violation(value: Any) -> float:
    """How far above 0 a constraint's attribute is; what is no number is infinitely far."""
    if not isinstance(value, int | float) or math.isnan(value):
        return math.inf
    return float(value)


def are_kept(names: Iterable[str], attributes: Mapping[str, Any]) -> bool:
    """Whether a trial of these user attributes keeps the constraints of these names."""
    return all(violation(attributes.get(name)) <= 0 for name in names)
