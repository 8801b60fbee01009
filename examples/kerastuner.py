"""The article's KerasTuner hypermodel, unchanged.

orch run kt:examples.kerastuner:build_model --trials 8 --epochs 8
"""

import keras


def build_model(hp):
    """The article's network; ``hp`` is KerasTuner's HyperParameters."""
    model = keras.Sequential()
    model.add(keras.layers.Flatten())
    activation = hp.Choice("activation", ["relu", "tanh", "sigmoid"])
    model.add(
        keras.layers.Dense(
            hp.Int("units", min_value=32, max_value=512, step=32), activation=activation
        )
    )
    model.add(keras.layers.Dropout(hp.Float("dropout", min_value=0.0, max_value=0.5)))
    for layer in range(2, 5):
        model.add(
            keras.layers.Dense(
                hp.Int(f"units_{layer}", min_value=8, max_value=64, step=8), activation=activation
            )
        )
    model.add(keras.layers.Dense(10, activation="softmax"))
    learning_rate = hp.Float("learning_rate", min_value=1e-4, max_value=1e-2, sampling="log")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
