"""A training loop in NumPy that goes on where a lost worker stopped.

orch run examples.numpy_loop:objective --trials 10 --set pruner.max_resource=20
"""

import numpy as np
import optuna

import orchestrator as orch

STEPS = 20

_RANDOM = np.random.default_rng(0)
X = _RANDOM.normal(size=(200, 8))
Y = X @ np.arange(8.0) + _RANDOM.normal(size=200)


def objective(trial: optuna.Trial) -> float:
    """Linear regression by stochastic gradient descent with momentum."""
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    momentum = trial.suggest_float("momentum", 0.0, 0.9)
    rng = np.random.default_rng(trial.number)
    done, state = orch.restore(trial) or (0, None)
    if state is None:
        state = {"weights": np.zeros(8), "velocity": np.zeros(8), "rng": rng.bit_generator.state}
    weights, velocity = state["weights"], state["velocity"]
    rng.bit_generator.state = state["rng"]
    error = float("inf")
    for step in range(done + 1, STEPS + 1):
        for batch in rng.permutation(200).reshape(10, 20):
            gradient = X[batch].T @ (X[batch] @ weights - Y[batch]) / 20
            velocity *= momentum
            velocity -= rate * gradient
            weights += velocity
        error = float(np.mean((X @ weights - Y) ** 2))
        orch.log(trial, {"norm": float(np.linalg.norm(weights))}, step)
        trial.report(error, step)
        orch.checkpoint(
            trial,
            step,
            {"weights": weights, "velocity": velocity, "rng": rng.bit_generator.state},
        )
        if trial.should_prune():
            raise optuna.TrialPruned
    return error
