"""An evolution strategy in NumPy: its population, its step size and its random state are kept."""

import numpy as np

import orchestrator as orch


def rosenbrock(x):
    return np.sum(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2, axis=1)


def objective(trial):
    parents = trial.suggest_int("parents", 2, 10)
    shrink = trial.suggest_float("shrink", 0.9, 0.999)
    rng = np.random.default_rng(12)
    generation, population, sigma = 0, rng.normal(size=(parents, 6)), 0.5
    restored = orch.restore(trial)
    if restored:
        generation, state = restored
        population, sigma = state["population"], state["sigma"]
        rng.bit_generator.state = state["rng"]
    while generation < 15:
        generation += 1
        children = population[rng.integers(parents, size=200)] + sigma * rng.normal(size=(200, 6))
        everyone = np.concatenate([population, children])
        population = everyone[np.argsort(rosenbrock(everyone))[:parents]]
        sigma *= shrink
        trial.report(float(rosenbrock(population)[0]), generation)
        state = {"population": population, "sigma": sigma, "rng": rng.bit_generator.state}
        orch.checkpoint(trial, generation, state)
    return float(rosenbrock(population)[0])
