"""Search: names and options of a spec into Optuna's samplers, pruners and distributions."""
