"""Pruning of PyTorch Lightning by the callback of optuna-integration, after Optuna's examples."""

import lightning.pytorch as pl
import optuna
import torch
import torch.nn.functional as F
from optuna_integration import PyTorchLightningPruningCallback
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 6


class LightningNet(pl.LightningModule):
    def __init__(self, dropout, units, lr):
        super().__init__()
        self.lr = lr
        self.model = nn.Sequential(
            nn.Linear(64, units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(units, 10)
        )

    def training_step(self, batch, batch_idx):
        data, target = batch
        return F.cross_entropy(self.model(data), target)

    def validation_step(self, batch, batch_idx):
        data, target = batch
        pred = self.model(data).argmax(dim=1)
        self.log("val_acc", pred.eq(target).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.model.parameters(), lr=self.lr)


class DigitsDataModule(pl.LightningDataModule):
    def setup(self, stage=None):
        x, y = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
        self.train = torch.utils.data.Subset(data, range(1400))
        self.val = torch.utils.data.Subset(data, range(1400, len(data)))

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=128, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=128)


def objective(trial):
    pl.seed_everything(0)
    model = LightningNet(
        trial.suggest_float("dropout", 0.2, 0.5),
        trial.suggest_int("units", 16, 128, log=True),
        trial.suggest_float("lr", 1e-3, 1e-1, log=True),
    )
    trainer = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        callbacks=[PyTorchLightningPruningCallback(trial, monitor="val_acc")],
    )
    trainer.fit(model, datamodule=DigitsDataModule())
    return trainer.callback_metrics["val_acc"].item()


if __name__ == "__main__":
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
    study.optimize(objective, n_trials=10)
    print(study.best_trial)
