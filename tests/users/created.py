"""Stores a study and its queue: ``python created.py KEYWORDS QUEUE``, both as JSON.

One process for what ``orch create`` and ``orch enqueue`` do, so that TensorFlow is loaded once.
An objective that is a list is a command.
"""

from __future__ import annotations

import json
import sys

import orchestrator as orch


def main(keywords: str, queue: str) -> None:
    given = json.loads(keywords)
    if isinstance(given["objective"], list):
        given["objective"] = orch.Command(given["objective"])
    study = orch.create_study(**given, sampler="random", pruner="none")
    for params in json.loads(queue):
        study.enqueue(params)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
