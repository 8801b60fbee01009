"""The names of the facts that orch stores among Optuna's attributes.

Every name stands here, those that only SQL writes too (``tests/base/test_facts.py`` compares). All
are user attributes, so that optuna-dashboard shows them, unless they say otherwise.
"""

from __future__ import annotations

PREFIX = "orch:"

# A trial: how it ran.
WORKER = "orch:worker"  # who ran it
THREADS = "orch:threads"  # CPU threads of that worker
SECONDS = "orch:seconds"  # how long it took, with what led up to its checkpoint
SEED = "orch:seed"  # of its training
RESTARTS = "orch:restarts"  # the checkpoints from which its training continued
LOG = "orch:log"  # the last lines of an attempt that failed
SAMPLER = "orch:sampler"  # which one drew it, where the study leaves that open
DRAW_SECONDS = "orch:draw_seconds"  # how long the draw took, where a model was asked
REASON = "orch:reason"  # why it failed, or was pruned

# A trial: one attempt of several at a configuration.
ATTEMPT = "orch:attempt"  # which one, from 1
RETRY_OF = "orch:retry_of"  # the number of the first
RETRIED_AS = "orch:retried_as"  # the number of the next
LOSSES = "orch:losses"  # how often the configuration's lease was lost
SIGNATURE = "orch:signature"  # the exception and the line that a first attempt failed at
DOUBTFUL = "orch:doubtful"  # the signature that it shares with another configuration

# A trial: its place in a study that promotes. System attributes, which a retry inherits.
BRACKET = "orch:bracket"
ROUND = "orch:round"
PAUSED = "orch:paused"  # it waits for its promotion

# A study.
SOFTWARE = "orch:software"  # what it pins of software
MISMATCHES = "orch:mismatches"  # other software that was let in
IMPORTED = "orch:imported"  # where it was imported from
CONFIRMING = "orch:confirming"  # which trials of another study it trains again
CONFIRMED = "orch:confirmed"  # the study that trained this one's best again
WARM_START = "orch:warm_start"  # a system attribute: the trials of older studies, by their names
TEST_EVALUATIONS = "orch:test_evaluations"  # each look at the test set
