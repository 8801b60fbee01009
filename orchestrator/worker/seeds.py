"""Seeds: every random draw of a trial follows from the study's seed and the trial's number."""

from __future__ import annotations

import hashlib


def derive(study_seed: int, *path: int | str) -> int:
    """A seed in 0..2**31-1 for one purpose, such as ``derive(seed, "training", number)``.

    SHA-256 keeps neighbouring numbers unrelated and is the same on every platform.
    """
    text = "/".join(map(str, (study_seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
