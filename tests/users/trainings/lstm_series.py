"""Forecasting: windows of a series into an LSTM, never shuffled."""

import numpy as np
from tensorflow.keras.layers import LSTM, Dense, Dropout
from tensorflow.keras.losses import Huber
from tensorflow.keras.models import Sequential
from tensorflow.keras.optimizers import Adam

METRIC, EPOCHS, PARAMS = "val_loss", 5, {"n_layers": 1, "units_0": 16, "dropout": 0.1}
EXACT, FAST, CHECKPOINTS = True, True, True


def build_model(hp):
    model = Sequential()
    n_layers = hp.Int("n_layers", 1, 2)
    for i in range(n_layers):
        model.add(LSTM(hp.Int(f"units_{i}", 8, 24, step=8), return_sequences=i < n_layers - 1))
    model.add(Dropout(hp.Float("dropout", 0.0, 0.3, step=0.1)))
    model.add(Dense(1))
    model.compile(optimizer=Adam(0.01), loss=Huber())
    return model


def create_dataset(series, look_back=12):
    x = np.array([series[i : i + look_back] for i in range(len(series) - look_back)])
    return x[..., None], series[look_back:]


def data():
    rng = np.random.default_rng(13)
    series = np.sin(np.arange(700) / 7) + rng.normal(0, 0.1, 700)
    x_train, y_train = create_dataset(series[:550])
    x_val, y_val = create_dataset(series[550:])
    return {
        "x": x_train,
        "y": y_train,
        "validation_data": (x_val, y_val),
        "batch_size": 32,
        "shuffle": False,
    }
