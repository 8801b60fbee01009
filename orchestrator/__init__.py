"""orch: distributed hyperparameter studies on Optuna and PostgreSQL."""
