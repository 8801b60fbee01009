"""A training loop of one's own, with the callbacks of the tuner, after KerasTuner's guide."""

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

METRIC, DIRECTION, EPOCHS, PARAMS = "val_loss", "minimize", 3, {"units": 16, "learning_rate": 0.01}
EXACT, FAST, CHECKPOINTS = True, False, False
TARGET = "MyHyperModel"


class MyHyperModel(keras_tuner.HyperModel):
    def build(self, hp):
        inputs = keras.Input(shape=(10,))
        x = keras.layers.Dense(hp.Choice("units", [16, 32]), activation="relu")(inputs)
        outputs = keras.layers.Dense(1)(x)
        return keras.Model(inputs=inputs, outputs=outputs)

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        train_ds = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
        validation_ds = tf.data.Dataset.from_tensor_slices(validation_data).batch(32)
        rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
        optimizer = keras.optimizers.Adam(rate)
        loss_fn = keras.losses.MeanSquaredError()
        epoch_loss_metric = keras.metrics.Mean()

        @tf.function
        def run_train_step(inputs, targets):
            with tf.GradientTape() as tape:
                loss = loss_fn(targets, model(inputs))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables))

        @tf.function
        def run_val_step(inputs, targets):
            epoch_loss_metric.update_state(loss_fn(targets, model(inputs)))

        for callback in callbacks or []:
            callback.set_model(model)

        best_epoch_loss = float("inf")
        for epoch in range(3):
            for inputs, targets in train_ds:
                run_train_step(inputs, targets)
            for inputs, targets in validation_ds:
                run_val_step(inputs, targets)
            epoch_loss = float(epoch_loss_metric.result())
            for callback in callbacks or []:
                callback.on_epoch_end(epoch, logs={"val_loss": epoch_loss})
            epoch_loss_metric.reset_state()
            best_epoch_loss = min(best_epoch_loss, epoch_loss)
        return best_epoch_loss


def data():
    rng = np.random.default_rng(36)
    x = rng.random((600, 10), dtype="float32")
    y = x.sum(axis=1, keepdims=True)
    return {"x": x[:500], "y": y[:500], "validation_data": (x[500:], y[500:])}
