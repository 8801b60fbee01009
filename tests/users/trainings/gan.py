"""A GAN as Keras's example writes it: two optimizers as attributes, a train_step, no test_step."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

METRIC, DIRECTION, EPOCHS, PARAMS = "g_loss", "minimize", 5, {"latent_dim": 8, "d_lr": 0.001}
EXACT, FAST, CHECKPOINTS = True, False, True
PEER = "keras"  # KerasTuner cannot save the weights of a model without call


class GAN(keras.Model):
    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.latent_dim = latent_dim
        self.seed_generator = keras.random.SeedGenerator(1337)

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.d_loss_metric, self.g_loss_metric]

    def train_step(self, real):
        batch_size = tf.shape(real)[0]
        noise = keras.random.normal((batch_size, self.latent_dim), seed=self.seed_generator)
        combined = tf.concat([self.generator(noise), real], axis=0)
        labels = tf.concat([tf.ones((batch_size, 1)), tf.zeros((batch_size, 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(combined))
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(zip(grads, self.discriminator.trainable_weights))

        noise = keras.random.normal((batch_size, self.latent_dim), seed=self.seed_generator)
        misleading = tf.zeros((batch_size, 1))
        with tf.GradientTape() as tape:
            g_loss = self.loss_fn(misleading, self.discriminator(self.generator(noise)))
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights))

        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {"d_loss": self.d_loss_metric.result(), "g_loss": self.g_loss_metric.result()}


def build_model(hp):
    latent_dim = hp.Choice("latent_dim", [4, 8])
    discriminator = keras.Sequential(
        [keras.Input((16,)), layers.Dense(16), layers.LeakyReLU(0.2), layers.Dense(1)],
        name="discriminator",
    )
    generator = keras.Sequential(
        [keras.Input((latent_dim,)), layers.Dense(16), layers.LeakyReLU(0.2), layers.Dense(16)],
        name="generator",
    )
    gan = GAN(discriminator, generator, latent_dim)
    gan.compile(
        d_optimizer=keras.optimizers.Adam(hp.Float("d_lr", 1e-4, 1e-2, sampling="log")),
        g_optimizer=keras.optimizers.Adam(1e-3),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return gan


def data():
    rng = np.random.default_rng(34)
    real = (rng.normal(size=(480, 1)) + rng.normal(0, 0.3, size=(480, 16))).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices(real)
    return {"x": dataset.batch(32).prefetch(tf.data.AUTOTUNE)}
