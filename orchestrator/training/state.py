"""The state of a training: all that its next epoch depends on, as arrays with names.

Kept: the variables of the model and its layers, also those that Keras does not track (raw
``tf.Variable``, states of stateful RNNs); seed generators; the optimizers of the model, of the
models that it holds, and those that it has as attributes; the global random states of Python, NumPy
and Keras; whether a callback has stopped the training; the callbacks' plain attributes.

Not kept, because it cannot be read: the states of TensorFlow's own random operations and of
``tf.data``; where a generator of data stands; plain Python attributes of a model or layer; the
variables of closures; and what is held by an object that is neither a layer nor a callback.

Metrics are not kept either: Keras resets them at the beginning of each epoch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from orchestrator.errors import ObjectiveError
from orchestrator.training.arrays import pack, unpack
from orchestrator.training.callback_state import capture_callbacks, restore_callbacks
from orchestrator.training.data import Array

__all__ = ["capture_state", "ensure_built", "has_stopped", "restore_callbacks", "restore_model"]

_log = logging.getLogger("orch")

_STOPPED = "training/stopped"
_TRAINED = "training/optimizers"  # JSON: of each optimizer, the variables that it was built for
_NUMBER = re.compile(r"_\d+(?=_|/|$)")
# Keras's and TensorFlow's lists of what stands elsewhere, too.
_BOOKKEEPING = re.compile(
    r"_self_|_unconditional_|_(non_)?trainable_variables$|_layers$|_metrics$|_inbound_|_outbound_"
)
_DEEPEST = 8  # lists in lists: deeper ones hold no variables, and might hold themselves
_PLAIN = (str, bytes, int, float, np.ndarray, np.generic, type(None))
_GLOBAL_GENERATOR = "global_seed_generator"


def capture_state(model: Any, callbacks: Sequence[Any] = ()) -> dict[str, Array]:
    """Copies of everything that training changes, for :func:`restore_model`.

    Args:
        model: a Keras model.
        callbacks: the user's, whose attributes belong to the state; see :func:`restore_callbacks`.

    Example:
        np.savez("state.npz", **capture_state(model, callbacks))
    """
    variables = _Variables(model)
    arrays = {name: np.array(variable.numpy()) for name, variable in variables.all().items()}
    trained = {each.name: each.trained(variables.names) for each in variables.optimizers}
    arrays[_TRAINED] = np.array(json.dumps(trained))
    arrays[_STOPPED] = np.array(bool(getattr(model, "stop_training", False)))
    return pack({**arrays, **_capture_random_state(), **capture_callbacks(callbacks)})


def restore_model(model: Any, arrays: Mapping[str, Array]) -> None:
    """Give a newly built model the captured state: before its first step, and all of it or none.

    Raises:
        ObjectiveError: the state is of another model, or the model is not built yet.
    """
    arrays = unpack(arrays)
    variables = _Variables(model)
    trained = json.loads(str(arrays[_TRAINED])) if _TRAINED in arrays else {}
    stored = {name for name in arrays if name.startswith(("model/", "optimizer/"))}
    lost = variables.build_optimizers(trained)
    if lost:
        _log.warning("not restored, because it trains what is not the model's: %s", ", ".join(lost))
        stored -= {name for name in stored if name.startswith(tuple(f"{each}/" for each in lost))}
    targets = variables.all()
    for each in variables.optimizers:
        if not trained.get(each.name) or each.name in lost:  # it had not made a step
            targets = {
                name: variable
                for name, variable in targets.items()
                if name in stored or name not in each.variables
            }
    _check(model, targets, stored, arrays)
    for name, variable in targets.items():
        variable.assign(arrays[name])
    _finalize(model)
    _restore_random_state(arrays)


def has_stopped(arrays: Mapping[str, Array]) -> bool:
    """Whether a callback had ended the training when its state was captured."""
    return bool(arrays.get(_STOPPED, False))


def ensure_built(model: Any, x: Any) -> None:
    """Build a model that waits for its data, as its first step would.

    Args:
        model: a Keras model.
        x: a batch of what it takes: arrays, or dictionaries and lists of them.

    Random states are the same afterwards. A model that cannot be called, as most GANs, stays as
    it is: its parts are built, or it builds them itself.
    """
    if _is_built(model):
        return
    import keras

    def symbolic(leaf: Any) -> Any:
        return keras.KerasTensor(tuple(leaf.shape), keras.backend.standardize_dtype(leaf.dtype))

    with _unchanged_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's, about what is tried next
        try:
            model(keras.tree.map_structure(symbolic, x), training=False)
        except Exception as error:  # a call that works with real data alone
            _log.debug("the model cannot be built symbolically: %s", error)
            try:
                model(x, training=False)
            except Exception as error:  # a step of its own calls it with something else
                _log.debug("the model cannot be called with a batch of its data: %s", error)


class _Names:
    """Variables by name, each once. A second one of the same name has its position with it."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self.by_id: dict[int, str] = {}

    def add(self, name: str, variable: Any) -> None:
        if id(variable) in self.by_id or _dtype(variable) in ("string", "resource"):
            return
        unique, count = name, 1
        while unique in self.by_name:
            count += 1
            unique = f"{name}#{count}"
        self.by_name[unique] = variable
        self.by_id[id(variable)] = unique


class _Optimizer:
    """An optimizer, with those inside it.

    Attributes:
        name: stable, e.g. ``optimizer/d_optimizer/adam``.
        variables: its variables by name.
    """

    def __init__(self, name: str, optimizer: Any) -> None:
        self.name = name
        self._optimizer = optimizer
        self.variables: dict[str, Any] = {}

    def trained(self, names: Mapping[int, str]) -> list[str | None]:
        """The variables that it was built for; none where it has not made a step."""
        if not self._optimizer.built:
            return []
        return [names.get(id(each)) for each in self._optimizer._trainable_variables]

    def build(self, variables: list[Any]) -> None:
        # A build of a LossScaleOptimizer that is built would make its variables again.
        if not self._optimizer.built:
            self._optimizer.build(variables)

    def is_built(self) -> bool:
        return bool(self._optimizer.built)

    def read(self, names: Mapping[int, str], seen: set[int]) -> None:
        """Look which variables there are now."""
        found = _Names()
        for name, optimizer in _with_inner(self.name, self._optimizer):
            references = _references(optimizer, names)
            for variable in optimizer._variables:
                if id(variable) not in seen:
                    found.add(f"{name}/{_slot_name(variable.name, references)}", variable)
            for attribute, value in _held(optimizer):
                variable = _variable_of(value)
                if variable is not None and id(variable) not in seen:
                    found.add(f"{name}/{attribute}", variable)
        self.variables = found.by_name
        seen.update(found.by_id)


class _Variables:
    """All variables that the training of a model changes, by names that another process finds."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layers = list(_layers(model, "model", set()))
        self._names = _Names()
        for path, layer in self._layers:
            for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
                self._names.add(f"{path}/{_plain(variable.name)}", variable)
            for generator in layer._seed_generators:
                self._names.add(f"{path}/{_plain(generator.name)}", generator.state)
        for path, layer in self._layers:
            for attribute, value in _held(layer):
                variable = _variable_of(value)
                if variable is not None:
                    self._names.add(f"{path}/{attribute}", variable)
        self.optimizers = list(self._find_optimizers())
        self._read_optimizers()

    @property
    def names(self) -> Mapping[int, str]:
        """The names of the model's variables by their ids."""
        return self._names.by_id

    def all(self) -> dict[str, Any]:
        """The variables of the model and of its optimizers."""
        found = dict(self._names.by_name)
        for each in self.optimizers:
            found.update(each.variables)
        return found

    def build_optimizers(self, trained: Mapping[str, list[str | None]]) -> list[str]:
        """Build those that were built when the state was captured, for the same variables.

        Returns:
            The names of those that trained variables which are not the model's.
        """
        lost = []
        for each in self.optimizers:
            names = trained.get(each.name) or []
            if not names or each.is_built():
                continue
            if None in names:
                lost.append(each.name)
                continue
            if not all(name in self._names.by_name for name in names):
                continue  # the model is another one
            strategy = getattr(self._model, "distribute_strategy", None)
            with strategy.scope() if strategy is not None else contextlib.nullcontext():
                each.build([self._names.by_name[str(name)] for name in names])
        self._read_optimizers()
        return lost

    def _find_optimizers(self) -> Iterator[_Optimizer]:
        import keras

        held = [
            (f"optimizer{path.removeprefix('model')}/{attribute}", value)
            for path, layer in self._layers
            for attribute, value in _held(layer)
        ]
        seen: set[int] = set()
        for name, value in [("optimizer", getattr(self._model, "optimizer", None)), *held]:
            if isinstance(value, keras.optimizers.Optimizer) and id(value) not in seen:
                inner = list(_with_inner(f"{name}/{_class_name(value)}", value))
                seen.update(id(optimizer) for _, optimizer in inner)
                yield _Optimizer(inner[0][0], value)

    def _read_optimizers(self) -> None:
        seen = set(self._names.by_id)
        for each in self.optimizers:
            each.read(self._names.by_id, seen)


def _layers(layer: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """A layer and those in it, each once, by paths that are the same in each process.

    Keras counts ``dense``, ``dense_1``, … through the whole process; here, within their parent.
    """
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield path, layer
    count: Counter[str] = Counter()
    for child in layer._layers:
        name = _plain(child.name)
        position = f"_{count[name]}" if count[name] else ""
        count[name] += 1
        yield from _layers(child, f"{path}/{name}{position}", seen)


def _plain(name: str) -> str:
    """A name without the numbers that Keras appends."""
    return _NUMBER.sub("", name)


def _class_name(value: Any) -> str:
    return type(value).__name__.lower()


def _held(holder: Any) -> Iterator[tuple[str, Any]]:
    """What stands in an object's attributes, in lists and dictionaries, too."""
    for name, value in list(vars(holder).items()):
        if not _BOOKKEEPING.match(name):
            yield from _leaves(name, value, 0)


def _leaves(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST or isinstance(value, _PLAIN):
        return
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(f"{path}/{key}", each, depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _leaves(f"{path}/{index}", each, depth + 1)
    else:
        yield path, value


def _variable_of(value: Any) -> Any:
    """The variable that a value is, or has its random state in; None: neither."""
    import keras

    if isinstance(value, keras.random.SeedGenerator):
        return value.state
    if isinstance(value, keras.Variable):
        return value
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return None
    if isinstance(value, tensorflow.random.Generator):
        return value.state
    return value if isinstance(value, tensorflow.Variable) else None


def _with_inner(name: str, optimizer: Any) -> Iterator[tuple[str, Any]]:
    """An optimizer and those that it wraps, as LossScaleOptimizer and MultiOptimizer do."""
    import keras

    yield name, optimizer
    for _, value in _held(optimizer):
        if isinstance(value, keras.optimizers.Optimizer):
            yield from _with_inner(f"{name}/{_class_name(value)}", value)


def _references(optimizer: Any, names: Mapping[int, str]) -> dict[str, str]:
    """How the names of an optimizer's variables begin, and the variables that they are for."""
    found: dict[str, str] = {}
    for variable in getattr(optimizer, "_trainable_variables", ()):
        path = str(getattr(variable, "path", variable.name)).replace("/", "_").replace(":", "_")
        name = names.get(id(variable), _plain(path)).removeprefix("model/")
        found.setdefault(f"{path}_", name)
    return found


def _slot_name(name: str, references: Mapping[str, str]) -> str:
    """``dense_3_kernel_momentum`` is ``dense/kernel/momentum``."""
    for end in range(len(name), 0, -1):
        if name[:end] in references:
            return f"{references[name[:end]]}/{name[end:]}"
    return _plain(name)


def _dtype(variable: Any) -> str:
    return str(getattr(variable.dtype, "name", variable.dtype))


def _check(model: Any, targets: Mapping[str, Any], stored: set[str], arrays: Any) -> None:
    if stored - set(targets) and not _is_built(model):
        raise ObjectiveError(
            "the checkpoint cannot be restored, because the model is built only by its first step; "
            "begin it with a keras.Input, or make its weights in build"
        )
    if set(targets) != stored:
        raise _other_model()
    for name, variable in targets.items():
        shape, array = tuple(variable.shape), arrays[name]
        fits = len(shape) == array.ndim and all(
            ours in (None, theirs) for ours, theirs in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise _other_model()


def _other_model() -> ObjectiveError:
    return ObjectiveError("the checkpoint is of another model; has the objective changed?")


def _is_built(model: Any) -> bool:
    """Whether all layers are; a model that is never called, as most GANs, need not be."""
    import keras

    layers = [layer for _, layer in _layers(model, "", set())]
    is_called = type(model).call not in (keras.Model.call, keras.Layer.call)
    return all(layer.built for layer in (layers if is_called else layers[1:]))


def _finalize(model: Any) -> None:
    """Normalization computes with constants that it makes of its variables."""
    import keras

    for _, layer in _layers(model, "", set()):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _capture_random_state() -> dict[str, Array]:
    """Those of Python's ``random``, of ``np.random``, and of Keras where no seed is given.

    TensorFlow's own random operations (``tf.random.normal``, the shuffling of ``tf.data``) have
    states inside its graphs, which cannot be read.
    """
    _, integers, gauss = random.getstate()
    state: dict[str, Array] = {
        "random/python": np.array(integers, np.uint32),
        "random/python_gauss": np.array([] if gauss is None else [gauss], np.float64),
    }
    numpy_state: Any = np.random.get_state(legacy=False)
    if numpy_state["bit_generator"] == "MT19937":  # else the user has set a generator
        state["random/numpy"] = np.array(numpy_state["state"]["key"], np.uint32)
        state["random/numpy_position"] = np.array(numpy_state["state"]["pos"])
        state["random/numpy_gauss"] = np.array(
            [numpy_state["gauss"]] if numpy_state["has_gauss"] else [], np.float64
        )
    generator = _keras_generator()
    if generator is not None:
        state["random/keras"] = np.array(generator.state.numpy())
    return state


def _restore_random_state(arrays: Mapping[str, Array]) -> None:
    """Set what :func:`_capture_random_state` returned; a state that is missing stays as it is."""
    if "random/keras" in arrays:
        generator = _keras_generator(make=True)
        if generator is not None:
            generator.state.assign(arrays["random/keras"])
    if "random/numpy" in arrays:
        gauss = arrays["random/numpy_gauss"]
        position = int(arrays["random/numpy_position"])
        np.random.set_state(
            ("MT19937", arrays["random/numpy"], position, gauss.size, float(gauss.sum()))
        )
    if "random/python" in arrays:  # the last: making Keras's generator draws from it
        gauss = arrays["random/python_gauss"]
        integers = tuple(map(int, arrays["random/python"]))
        random.setstate((3, integers, float(gauss[0]) if gauss.size else None))


@contextmanager
def _unchanged_random_state() -> Iterator[None]:
    """What happens inside draws nothing, as those see it who come after it."""
    state = _capture_random_state()
    try:
        yield
    finally:
        _restore_random_state(state)


def _keras_generator(make: bool = False) -> Any:
    """Keras's generator for whoever gives no seed; None: nobody has drawn from it."""
    try:
        from keras.src.backend.common import global_state
        from keras.src.random.seed_generator import global_seed_generator
    except ImportError:  # Keras has moved it
        return None
    if make:
        return global_seed_generator()
    return global_state.get_global_attribute(_GLOBAL_GENERATOR)
