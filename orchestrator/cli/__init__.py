"""The command line: one short function a verb, no logic of its own.

Nothing here imports Optuna, TensorFlow or the database at the top: ``orch --help`` is instant.
"""
