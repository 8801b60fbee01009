"""A PyTorch loop that goes on where a lost worker stopped.

pip install torch
orch run examples.torch_loop:objective --direction maximize --set pruner.max_resource=10
"""

import optuna
import torch
from sklearn.datasets import load_digits

import orchestrator as orch

EPOCHS = 10

_X, _Y = load_digits(return_X_y=True)
X, Y = torch.tensor(_X / 16, dtype=torch.float32), torch.tensor(_Y)


def objective(trial: optuna.Trial) -> float:
    """A small network for digits; 1500 images train, the others test."""
    torch.manual_seed(trial.number)
    units = trial.suggest_int("units", 16, 128, step=16)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, units),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(units, 10),
    )
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    done, state = orch.restore(trial) or (0, None)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
    accuracy = 0.0
    for epoch in range(done + 1, EPOCHS + 1):
        model.train()
        for batch in torch.randperm(1500).split(50):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(X[batch]), Y[batch])
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(X[1500:]).argmax(1) == Y[1500:]).float().mean().item()
        orch.log(trial, {"loss": loss.item()}, epoch)
        trial.report(accuracy, epoch)
        orch.checkpoint(
            trial,
            epoch,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
            },
        )
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy
