"""Stores a study and its queue: ``python created.py KEYWORDS QUEUE``, both as JSON.

One process for what ``orch create`` and ``orch enqueue`` do, so that TensorFlow is loaded once.
An objective that is a list is a command.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import orchestrator as orch


def create(keywords: dict[str, Any], queue: list[dict[str, Any]]) -> None:
    """A study whose first trials have the configurations of the queue."""
    if isinstance(keywords["objective"], list):
        keywords = {**keywords, "objective": orch.Command(keywords["objective"])}
    study = orch.create_study(**keywords, sampler="random", pruner="none")
    for params in queue:
        study.enqueue(params)


if __name__ == "__main__":
    create(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
