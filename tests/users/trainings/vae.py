"""A variational autoencoder as Keras's example writes it, with a test_step for its validation."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

METRIC, DIRECTION, EPOCHS, PARAMS = "val_loss", "minimize", 4, {"latent_dim": 2, "beta": 0.5}
EXACT, FAST, CHECKPOINTS = True, False, True
PEER = "keras"  # KerasTuner cannot save the weights of a model without call


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        epsilon = keras.random.normal(shape=ops.shape(z_mean), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


class VAE(keras.Model):
    def __init__(self, encoder, decoder, beta, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.beta = beta
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.reconstruction_loss_tracker = keras.metrics.Mean(name="reconstruction_loss")
        self.kl_loss_tracker = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker, self.reconstruction_loss_tracker, self.kl_loss_tracker]

    def losses_of(self, data):
        z_mean, z_log_var, z = self.encoder(data)
        error = ops.square(data - self.decoder(z))
        reconstruction = ops.mean(ops.sum(error, axis=1))
        kl = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
        kl = ops.mean(ops.sum(kl, axis=1))
        return reconstruction + self.beta * kl, reconstruction, kl

    def track(self, total, reconstruction, kl):
        self.total_loss_tracker.update_state(total)
        self.reconstruction_loss_tracker.update_state(reconstruction)
        self.kl_loss_tracker.update_state(kl)
        return {
            "loss": self.total_loss_tracker.result(),
            "reconstruction_loss": self.reconstruction_loss_tracker.result(),
            "kl_loss": self.kl_loss_tracker.result(),
        }

    def train_step(self, data):
        with tf.GradientTape() as tape:
            losses = self.losses_of(data)
        grads = tape.gradient(losses[0], self.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.trainable_weights))
        return self.track(*losses)

    def test_step(self, data):
        return self.track(*self.losses_of(data))


def build_model(hp):
    latent_dim = hp.Int("latent_dim", 2, 4)
    inputs = keras.Input((16,))
    x = layers.Dense(16, activation="relu")(inputs)
    z_mean = layers.Dense(latent_dim, name="z_mean")(x)
    z_log_var = layers.Dense(latent_dim, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    encoder = keras.Model(inputs, [z_mean, z_log_var, z], name="encoder")
    decoder = keras.Sequential(
        [keras.Input((latent_dim,)), layers.Dense(16, activation="relu"), layers.Dense(16)],
        name="decoder",
    )
    vae = VAE(encoder, decoder, hp.Float("beta", 0.1, 1.0))
    vae.compile(optimizer=keras.optimizers.Adam(5e-3))
    return vae


def data():
    rng = np.random.default_rng(35)
    x = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 16)) + rng.normal(0, 0.1, size=(600, 16))
    x = x.astype("float32")
    return {"x": x[:500], "validation_data": (x[500:],), "batch_size": 64}
