"""Seeds: every random draw of a trial follows from the study's seed and the trial's number."""

from __future__ import annotations

import hashlib

from optuna.trial import FrozenTrial

from orchestrator.base import facts


def derive(study_seed: int, *path: int | str) -> int:
    """A seed in 0..2**31-1 for one purpose, such as ``derive(seed, "sampler", number)``.

    SHA-256 keeps neighbouring numbers unrelated and is the same on every platform.
    """
    text = "/".join(map(str, (study_seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def first_number(trial: FrozenTrial) -> int:
    """The number of the first attempt at the trial's configuration; its own unless a retry."""
    return int(trial.user_attrs.get(facts.RETRY_OF, trial.number))


def training_seed(study_seed: int, trial: FrozenTrial) -> int:
    """The seed of a trial's training: a retry trains with that of the first attempt."""
    return derive(study_seed, "training", first_number(trial))
