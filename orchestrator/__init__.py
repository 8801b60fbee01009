"""orch: distributed hyperparameter studies on Optuna and PostgreSQL."""

import logging

# The only logger of ours. Whoever uses orch decides where its messages go.
logging.getLogger("orch").addHandler(logging.NullHandler())
