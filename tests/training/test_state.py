"""The state of real Keras trainings, captured, stored, and restored into newly built models."""

from __future__ import annotations

import collections
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import resumed
import tensorflow as tf
from keras import layers, optimizers

from orchestrator.errors import ObjectiveError
from orchestrator.training.data import Array
from orchestrator.training.state import (
    capture_state,
    ensure_built,
    has_stopped,
    restore_callbacks,
    restore_model,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = (X.sum(1, keepdims=True) > 0).astype("float32")


def stored(arrays: dict[str, Array]) -> dict[str, Array]:
    """As a checkpoint has them: nothing is pickled."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def compiled(model: Any, optimizer: Any = "adam", **options: Any) -> Any:
    model.compile(optimizer, "mse", **options)
    return model


def train(model: Any, epochs: int = 1, start: int = 0, **options: Any) -> Any:
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, initial_epoch=start, **options)


def assert_equal(arrays: dict[str, Array], others: dict[str, Array]) -> None:
    assert list(arrays) == list(others)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name, strict=True)


class Residual(layers.Layer):  # type: ignore[misc]
    """Layers in lists, a seed generator in a list, a variable that Keras does not track."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parts = [layers.Dense(6), layers.Dropout(0.3)]
        self.generators = [keras.random.SeedGenerator(1)]
        self.calls = tf.Variable(0, trainable=False)
        self.scale = keras.Variable(1.0, name="scale")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1)
            x = x + keras.random.normal((6,), seed=self.generators[0])
        return x + self.scale * self.parts[1](self.parts[0](x), training=training)


class Net(keras.Model):  # type: ignore[misc]
    """Without an Input: its first step builds it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = {"first": Residual(), "second": Residual()}
        self.out = layers.Dense(1)

    def call(self, x: Any, training: bool = False) -> Any:
        for block in self.blocks.values():
            x = block(x, training=training)
        return self.out(x)


def functional() -> Any:
    inputs = keras.Input((6,))
    shared = layers.Dense(6, activation="relu")
    x = layers.BatchNormalization()(shared(shared(inputs)))
    return keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.2)(x)))


def normalized() -> Any:
    norm = layers.Normalization()
    norm.adapt(X * 3 + 1)
    return keras.Sequential([keras.Input((6,)), norm, layers.Dense(1)])


def recurrent() -> Any:
    return keras.Sequential(
        [
            keras.Input(batch_shape=(16, 6)),
            layers.Reshape((3, 2)),
            layers.Bidirectional(layers.GRU(4, return_sequences=True, recurrent_dropout=0.2)),
            layers.LSTM(4, stateful=True),
            layers.Dense(1),
        ]
    )


class Twins(keras.Model):  # type: ignore[misc]
    """Two layers of one name: Keras's get_state_tree refuses them."""

    def __init__(self) -> None:
        super().__init__()
        self.one = layers.Dense(6, name="same")
        self.other = layers.Dense(6, name="same")

    def build(self, shape: Any) -> None:
        self.one.build(shape)
        self.other.build(shape)

    def call(self, x: Any) -> Any:
        return keras.ops.mean(self.other(self.one(x)), -1, keepdims=True)


MODELS: dict[str, Callable[[], Any]] = {
    "functional, a shared layer, BatchNormalization": functional,
    "Sequential without an Input": lambda: keras.Sequential(
        [layers.Dense(4), layers.Dropout(0.5), layers.Dense(1)]
    ),
    "subclass without an Input": Net,
    "Normalization": normalized,
    "RNNs, one of them stateful": recurrent,
    "repeated names": Twins,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_restored_model_trains_as_the_one_that_was_captured(name: str) -> None:
    keras.utils.set_random_seed(1)
    model = compiled(MODELS[name](), optimizers.Adam(0.02))
    train(model, 2)
    arrays = stored(capture_state(model))
    train(model, 4, start=2)
    keras.backend.clear_session()
    keras.Sequential([layers.Dense(3), layers.Dense(3)])  # another process counts otherwise
    keras.utils.set_random_seed(2)
    fresh = compiled(MODELS[name](), optimizers.Adam(0.02))
    ensure_built(fresh, X[:16])
    restore_model(fresh, arrays)
    assert_equal(stored(capture_state(fresh)), arrays)
    train(fresh, 4, start=2)
    for weight, expected in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)
    expected_arrays = capture_state(model)
    for key in (key for key in expected_arrays if "seed_generator" in key or "calls" in key):
        np.testing.assert_array_equal(capture_state(fresh)[key], expected_arrays[key])


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optimizers.SGD(0.02, momentum=0.9, nesterov=True),
        lambda: optimizers.RMSprop(0.01, centered=True),
        lambda: optimizers.Adam(0.02, amsgrad=True, use_ema=True),
        lambda: optimizers.AdamW(0.02, gradient_accumulation_steps=3),
        lambda: optimizers.Nadam(0.02),
        lambda: optimizers.Adafactor(0.02),
        lambda: optimizers.Ftrl(0.02),
        lambda: optimizers.Lion(0.002),
        lambda: optimizers.Muon(0.02),
        lambda: optimizers.ScheduleFreeAdamW(0.02),
        lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 4, 0.5), momentum=0.5),
        lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.02), dynamic_growth_steps=3),
        lambda: optimizers.MultiOptimizer(
            optimizers.OptimizerMap(
                optimizers.SGD(0.1, momentum=0.9), {".*bias": optimizers.Adam()}
            )
        ),
    ],
)
def test_optimizer_state_resumes(optimizer: Callable[[], Any]) -> None:
    def model() -> Any:
        inputs = keras.Input((6,))
        hidden = layers.Dense(4, activation="tanh")(inputs)
        return compiled(keras.Model(inputs, layers.Dense(1)(hidden)), optimizer())

    keras.utils.set_random_seed(1)
    first = model()
    train(first, 2)
    arrays = stored(capture_state(first))
    train(first, 4, start=2)
    second = model()
    restore_model(second, arrays)
    assert_equal(stored(capture_state(second)), arrays)
    train(second, 4, start=2)
    for name, expected in capture_state(first).items():
        np.testing.assert_allclose(
            capture_state(second)[name], expected, rtol=1e-5, atol=1e-6, err_msg=name
        ) if expected.dtype.kind == "f" else None
    assert len(second.optimizer.variables) == len(first.optimizer.variables)


class Gan(keras.Model):  # type: ignore[misc]
    """Two optimizers as attributes, one of them in a dictionary; each trains its own part."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.Sequential([keras.Input((3,)), layers.Dense(6)])
        self.discriminator = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(1)])
        self.noise = keras.random.SeedGenerator(3)

    def compile(self, **options: Any) -> None:
        super().compile(**options)
        self.d_optimizer = optimizers.Adam(0.01)
        self.others = {"g": optimizers.SGD(0.01, momentum=0.9)}

    def train_step(self, data: Any) -> Any:
        real, _ = data
        fake = self.generator(keras.random.normal((16, 3), seed=self.noise))
        weights = self.discriminator.trainable_weights
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(self.discriminator(fake) - self.discriminator(real))
        self.d_optimizer.apply(tape.gradient(loss, weights), weights)
        weights = self.generator.trainable_weights
        with tf.GradientTape() as tape:
            fake = self.generator(keras.random.normal((16, 3), seed=self.noise))
            judged = -keras.ops.mean(self.discriminator(fake))
        self.others["g"].apply(tape.gradient(judged, weights), weights)
        return {"d_loss": loss, "g_loss": judged}


def test_both_optimizers_of_a_gan_go_on() -> None:
    def gan() -> Gan:
        model = Gan()
        model.compile()  # Keras gives it an RMSprop, which never makes a step
        return model

    keras.utils.set_random_seed(1)
    first = gan()
    train(first, 2)
    arrays = stored(capture_state(first))
    assert "optimizer/d_optimizer/adam/sequential_1/dense_1/kernel/momentum" in arrays
    train(first, 4, start=2)
    second = gan()
    ensure_built(second, X[:16])
    restore_model(second, arrays)
    assert second.d_optimizer.iterations.numpy() == second.others["g"].iterations.numpy() == 8
    train(second, 4, start=2)
    for name in ("generator", "discriminator"):
        weights = getattr(second, name).get_weights()
        for weight, expected in zip(weights, getattr(first, name).get_weights(), strict=True):
            np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)


def test_an_optimizer_that_was_built_without_a_step_is_taken_as_new() -> None:
    model = Gan()
    model.compile()
    arrays = capture_state(model)
    fresh = Gan()
    fresh.compile()
    fresh.optimizer.build(fresh.trainable_variables)
    restore_model(fresh, arrays)
    assert fresh.optimizer.iterations.numpy() == 0


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "mixed_bfloat16"])
def test_small_floats_are_kept_bit_for_bit(policy: str) -> None:
    def model() -> Any:
        parts = [keras.Input((6,)), layers.Dense(4, dtype=policy), layers.Dense(1, dtype="float32")]
        return compiled(keras.Sequential(parts), optimizer)

    scales = policy == "mixed_float16"
    optimizer: Any = optimizers.Adam(0.02)
    optimizer = optimizers.LossScaleOptimizer(optimizer) if scales else optimizer
    first = model()
    train(first, 2)
    arrays = stored(capture_state(first))
    assert ("model/dense/kernel@bfloat16" in arrays) == (policy == "bfloat16")
    optimizer = optimizers.Adam(0.02)
    optimizer = optimizers.LossScaleOptimizer(optimizer) if scales else optimizer
    second = model()
    restore_model(second, arrays)
    assert_equal(stored(capture_state(second)), arrays)
    train(second, 3, start=2)
    assert len(second.optimizer.variables) == len(first.optimizer.variables)


def test_float8_is_kept_bit_for_bit() -> None:
    model = keras.Sequential([keras.Input((2,))])
    model.scale = keras.Variable(np.array([1.5, -0.0, np.nan], "float32"), dtype="float8_e4m3fn")
    arrays = stored(capture_state(model))
    before = np.array(model.scale.numpy()).view(np.uint8)
    model.scale.assign(np.zeros(3, "float32"))
    restore_model(model, arrays)
    np.testing.assert_array_equal(np.array(model.scale.numpy()).view(np.uint8), before)


def test_a_new_optimizer_of_a_second_phase_is_captured_and_restored() -> None:
    def fine_tuned(model: Any) -> Any:
        model.layers[0].trainable = True
        return compiled(model, optimizers.SGD(0.01, momentum=0.9))

    def frozen() -> Any:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(1)])
        model.layers[0].trainable = False
        return compiled(model)

    first = frozen()
    train(first, 1)
    train(fine_tuned(first), 3, start=1)
    arrays = stored(capture_state(first))
    second = fine_tuned(frozen())
    restore_model(second, arrays)
    assert_equal(stored(capture_state(second)), arrays)
    with pytest.raises(ObjectiveError, match="another model"):
        restore_model(frozen(), arrays)


def test_a_model_without_an_optimizer_is_restored() -> None:
    first, second = functional(), functional()
    restore_model(second, stored(capture_state(first)))
    for weight, expected in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def dense(units: int = 4, name: str | None = None, optimizer: Any = "adam") -> Any:
    parts = [keras.Input((6,)), layers.Dense(units, name=name), layers.Dense(1)]
    return compiled(keras.Sequential(parts), optimizer)


@pytest.mark.parametrize(
    "other",
    [
        lambda: dense(units=5),
        lambda: dense(name="renamed"),
        lambda: dense(optimizer="sgd"),
        lambda: compiled(keras.Sequential([keras.Input((6,)), layers.Dense(4)])),
        lambda: dense(optimizer=optimizers.Adam(amsgrad=True)),
    ],
)
def test_a_state_of_another_model_is_refused_and_nothing_is_changed(other: Any) -> None:
    trained = dense()
    train(trained)
    model = other()
    before, state = model.get_weights(), random.getstate()
    with pytest.raises(ObjectiveError, match="another model; has the objective changed"):
        restore_model(model, capture_state(trained))
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert random.getstate() == state


def test_a_model_that_is_not_built_says_how_to_build_it() -> None:
    trained = compiled(Net())
    train(trained)
    with pytest.raises(ObjectiveError, match=r"begin it with a keras.Input"):
        restore_model(compiled(Net()), capture_state(trained))


def test_a_model_is_built_from_nested_data_without_a_draw() -> None:
    class Nested(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words, self.numbers = layers.Embedding(9, 4), layers.Dense(4)
            self.dropout = layers.Dropout(0.5)

        def call(self, x: Any, training: bool = False) -> Any:
            words = keras.ops.mean(self.words(x["words"]), 1)
            return self.dropout(words + self.numbers(x["rest"][0]), training=training)

    keras.utils.set_random_seed(4)
    keras.random.normal((2,))  # Keras makes its global generator
    model = Nested()
    before = {n: a for n, a in capture_state(model).items() if n.startswith("random/")}
    ensure_built(model, {"words": np.ones((2, 5), "int32"), "rest": [X[:2]]})
    after = capture_state(model)
    assert {"model/embedding/embeddings", "model/dense/kernel"} <= set(after)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


def test_a_model_whose_call_needs_real_data_is_built_by_it() -> None:
    class Eager(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.out = layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.out(x) if float(keras.ops.max(x)) > 0 else self.out(-x)

    model = Eager()
    ensure_built(model, X)
    assert "model/dense/kernel" in capture_state(model)


def test_the_global_random_states_go_on() -> None:
    model = keras.Sequential([keras.Input((2,))])
    keras.utils.set_random_seed(6)

    def draws() -> list[float]:
        keras_draw = float(keras.random.uniform(()))
        return [
            random.random(),
            random.gauss(0, 1),
            np.random.rand(),
            np.random.randn(),
            keras_draw,
        ]

    draws()
    arrays = stored(capture_state(model))
    expected = draws()
    keras.utils.set_random_seed(7)
    draws()
    restore_model(model, arrays)
    assert draws() == expected


class Notes(keras.callbacks.Callback):  # type: ignore[misc]
    """A user's: plain attributes of all kinds, and some that are not."""

    def __init__(self, x: Array, path: str) -> None:
        super().__init__()
        self.x, self.path = x, path
        self.beta = 0.0
        self.losses: dict[str, list[float]] = collections.defaultdict(list)
        self.recent: collections.deque[float] = collections.deque(maxlen=2)
        self.counts = np.zeros(3, "int64")
        self.rng = np.random.default_rng(0)
        self.python = random.Random(0)
        self.variable = keras.Variable(0.0)
        self.best: Any = None
        self.inner = keras.callbacks.EarlyStopping("loss", patience=9)
        self.tracker: Any = None
        self.function: Any = len

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.inner.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        self.inner.on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.inner.on_epoch_end(epoch, logs)
        self.beta += 0.1
        self.losses["loss"].append(logs["loss"])
        self.recent.append(logs["loss"])
        self.counts[epoch] += 1
        self.rng.random(), self.python.random()
        self.variable.assign_add(1.0)
        self.best = {"epoch": epoch, 3: (True, None, np.float32(1.5)), "set": {1, 2}}
        self.tracker = keras.ops.sum(keras.ops.ones(2))
        self.function = abs  # nobody misses a function


def test_users_callbacks_go_on_with_their_plain_attributes() -> None:
    def begin(arrays: dict[str, Array], path: str) -> tuple[Any, Notes, list[str]]:
        model, notes = dense(), Notes(X.copy(), path)
        notes.set_model(model)
        notes.on_train_begin()
        return model, notes, restore_callbacks([notes], arrays)

    model, notes, words = begin({}, "here")
    assert words == []
    for epoch in range(2):
        notes.on_epoch_end(epoch, {"loss": 1.0 - epoch / 10})
    arrays = stored(capture_state(model, [notes]))
    assert not any("/x/" in name for name in arrays), "the examples did not change"
    _, again, words = begin(arrays, "there")
    assert words == []
    assert again.path == "there", "what did not change is the new one's own"
    assert again.beta == notes.beta and again.losses == notes.losses
    assert type(again.losses) is collections.defaultdict and again.best == notes.best
    assert type(again.best[3]) is tuple and again.best[3][2].dtype == np.float32
    assert again.recent == notes.recent and again.recent.maxlen == 2
    np.testing.assert_array_equal(again.counts, [1, 1, 0])
    assert again.rng.random() == notes.rng.random()
    assert again.python.random() == notes.python.random()
    assert again.variable.numpy() == 2.0 and float(again.tracker) == 2.0
    assert again.inner.best == notes.inner.best == 0.9
    assert again.inner.min_delta == 0 and again.inner.monitor_op is None


def test_what_a_callback_cannot_keep_is_said_in_words() -> None:
    class Tracker:
        def __init__(self) -> None:
            self.seen = 0

    class Holder(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tracker, self.count = Tracker(), 0

    def begin(arrays: dict[str, Array], *callbacks: Any) -> list[str]:
        return restore_callbacks(callbacks, arrays)

    model, stopping, holder = dense(), keras.callbacks.EarlyStopping("loss"), Holder()
    begin({}, stopping, holder)
    holder.count = stopping.wait = 2
    arrays = stored(capture_state(model, [stopping, holder]))
    fresh = Holder()
    assert begin(arrays, keras.callbacks.EarlyStopping("loss"), fresh) == [
        "callback 2 (Holder): tracker"
    ]
    assert fresh.count == 2
    assert begin(arrays, Holder()) == [
        "callback 1 (EarlyStopping): all of it",
        "callback 2 (Holder): all of it",
    ]


def test_a_training_that_a_callback_had_stopped_says_so() -> None:
    model = dense()
    train(model, 5, callbacks=[keras.callbacks.EarlyStopping("loss", patience=1, min_delta=9)])
    assert has_stopped(stored(capture_state(model)))
    assert not has_stopped(stored(capture_state(dense())))


def test_in_another_process_rates_the_last_epoch_and_the_best_weights_are_the_same(
    tmp_path: Path,
) -> None:
    keras.utils.set_random_seed(1)
    whole = resumed.train(0, {})
    epochs = len(whole.rates)
    assert 0.05 > whole.rates[-3] > whole.rates[-1] and epochs < 40
    epoch = epochs - 2  # EarlyStopping waits, and ReduceLROnPlateau has halved the rate
    np.savez(tmp_path / "state.npz", allow_pickle=False, **whole.states[epoch - 1])
    subprocess.run([sys.executable, resumed.__file__, tmp_path, str(epoch)], check=True)
    rates = json.loads((tmp_path / "rates.json").read_text())
    assert rates == whole.rates[epoch:]
    with np.load(tmp_path / "ended.npz") as ended:
        for name, expected in zip(ended.files, whole.model.get_weights(), strict=True):
            np.testing.assert_allclose(ended[name], expected, rtol=1e-5, atol=1e-6)


def test_importing_it_imports_neither_keras_nor_tensorflow() -> None:
    code = (
        "import sys, orchestrator.training.state; "
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'ml_dtypes')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keras_own_callbacks_go_on_in_a_training(tmp_path: Path) -> None:
    def begin(folder: Path, arrays: dict[str, Array]) -> tuple[Any, list[Any]]:
        folder.mkdir()
        callbacks: list[Any] = [
            keras.callbacks.ModelCheckpoint(folder / "best.keras", "loss", save_best_only=True),
            keras.callbacks.CSVLogger(folder / "log.csv"),
            keras.callbacks.TensorBoard(folder),
            keras.callbacks.BackupAndRestore(folder / "backup"),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.LambdaCallback(),
            keras.callbacks.History(),
        ]
        words: list[str] = []
        last = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: words.extend(restore_callbacks(callbacks, arrays))
        )
        model = dense(optimizer=optimizers.Adam(0.01, use_ema=True))
        if arrays:
            restore_model(model, arrays)
        kept: list[dict[str, Array]] = []
        last.on_epoch_end = lambda epoch, logs: kept.append(capture_state(model, callbacks))
        train(model, 2 + bool(arrays), start=2 * bool(arrays), callbacks=[*callbacks, last])
        assert words == []
        return kept[-1], callbacks

    arrays, callbacks = begin(tmp_path / "first", {})
    assert not any("/best.keras" in str(array) for array in arrays.values())
    _, others = begin(tmp_path / "second", stored(arrays))
    assert others[0].best <= callbacks[0].best
    assert others[0].filepath == str(tmp_path / "second" / "best.keras")
    assert others[-1].epoch == [0, 1, 2] and len(others[-1].history["loss"]) == 3
    assert float(others[0].model.optimizer.learning_rate) == pytest.approx(0.01 / 8)


def test_random_generators_of_tensorflow_that_a_model_holds_go_on() -> None:
    first, second = (keras.Sequential([keras.Input((2,))]) for _ in range(2))
    first.noise, second.noise = (tf.random.Generator.from_seed(seed) for seed in (1, 2))
    first.noise.normal((3,))
    restore_model(second, stored(capture_state(first)))
    assert second.noise.normal(()).numpy() == first.noise.normal(()).numpy()


def test_text_vocabulary_is_not_part_of_the_state() -> None:
    def model() -> Any:
        text = layers.TextVectorization(output_mode="tf_idf")
        text.adapt(["a b", "b c"])
        return keras.Sequential([keras.Input((1,), dtype="string"), text, layers.Dense(1)])

    first, second = model(), model()
    restore_model(second, stored(capture_state(first)))
    words = tf.constant([["a b c"]])
    np.testing.assert_array_equal(second(words), first(words))


def test_an_optimizer_of_variables_that_the_model_does_not_hold_begins_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Elsewhere:
        weight = keras.Variable(1.0)

    def model() -> Any:
        made = keras.Sequential([keras.Input((2,))])
        made.other = optimizers.Adam()
        return made

    first, second = model(), model()
    first.other.apply([keras.ops.ones(())], [Elsewhere.weight])
    restore_model(second, stored(capture_state(first)))
    assert "optimizer/other/adam" in caplog.text
    assert second.other.iterations.numpy() == 0


def test_callbacks_in_lists_of_callbacks_go_on() -> None:
    def begin(arrays: dict[str, Array]) -> Any:
        plateau = keras.callbacks.ReduceLROnPlateau("loss")
        nested = keras.callbacks.CallbackList([keras.callbacks.CallbackList([plateau])])
        assert restore_callbacks([nested], arrays) == []
        return nested, plateau

    nested, plateau = begin({})
    plateau.wait, plateau.cooldown_counter, plateau.best = 3, 2, 0.5
    _, again = begin(stored(capture_state(dense(), [nested])))
    assert (again.wait, again.cooldown_counter, again.best) == (3, 2, 0.5)


def test_a_callback_of_two_fits_keeps_what_the_first_gave_it() -> None:
    class Count(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen = 0

    count, fresh = Count(), Count()
    restore_callbacks([count], {})
    count.seen = 5
    restore_callbacks([count], {})  # the second fit begins, and counts nothing yet
    restore_callbacks([fresh], stored(capture_state(dense(), [count])))
    assert fresh.seen == 5


def test_a_model_that_a_callback_holds_besides_is_said_to_be_lost() -> None:
    class Teacher(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self, teacher: Any) -> None:
            super().__init__()
            self.teacher = teacher

    def begin(teacher: Any, arrays: dict[str, Array]) -> tuple[Any, list[str]]:
        callback = Teacher(teacher or trained)
        callback.set_model(trained)
        return callback, restore_callbacks([callback], arrays)

    trained, other = dense(), dense()
    for teacher, words in ((None, []), (other, ["callback 1 (Teacher): teacher"])):
        callback, _ = begin(teacher, {})
        assert begin(teacher, stored(capture_state(trained, [callback])))[1] == words
