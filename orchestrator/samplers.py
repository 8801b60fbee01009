"""Samplers of orch's own, which also work under plain Optuna.

Example::

    import optuna
    from orchestrator.samplers import MixedGP

    study = optuna.create_study(sampler=MixedGP(seed=0))
"""

from __future__ import annotations

from orchestrator.search.mixed_gp import MixedGP

__all__ = ["MixedGP"]
