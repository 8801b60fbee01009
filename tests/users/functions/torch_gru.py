"""A recurrent network in PyTorch with a learning-rate schedule, kept by torch.save."""

import io

import optuna
import torch
from torch import nn

import orchestrator as orch

EPOCHS = 6


class Net(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.rnn = nn.GRU(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def objective(trial):
    torch.manual_seed(0)
    t = torch.linspace(0, 60, 601)
    series = torch.sin(t) + 0.1 * torch.randn(601)
    windows = series.unfold(0, 21, 1)
    x, y = windows[:, :20, None], windows[:, 20:]

    model = Net(trial.suggest_int("hidden", 4, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.suggest_float("lr", 0.01, 0.5))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    epoch = 0
    restored = orch.restore(trial)
    if restored is not None:
        epoch, state = restored
        saved = torch.load(io.BytesIO(state["torch"]))
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        torch.set_rng_state(saved["rng"])
    while epoch < EPOCHS:
        epoch += 1
        for batch in torch.randperm(500).split(50):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        scheduler.step()
        with torch.no_grad():
            error = nn.functional.mse_loss(model(x[500:]), y[500:]).item()
        trial.report(error, epoch)
        buffer = io.BytesIO()
        torch.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "rng": torch.get_rng_state(),
            },
            buffer,
        )
        orch.checkpoint(trial, epoch, {"torch": buffer.getvalue()})
        if trial.should_prune():
            raise optuna.TrialPruned
    return error
