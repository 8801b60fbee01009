"""A function's state comes back as it was, and what cannot be stored is named."""

from __future__ import annotations

import io
import math
import random
import re
from collections import OrderedDict
from typing import Any

import ml_dtypes
import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

import orchestrator as orch
from orchestrator.errors import ObjectiveError
from orchestrator.training.function_state import Outline, read
from orchestrator.worker.checkpoints import Checkpoint

ARRAYS: dict[str, NDArray[Any]] = {
    **{str(dtype): np.arange(3).astype(dtype) for dtype in "?bhilBHILefdgFD"},
    "bfloat16": np.array([1.5, -0.0, np.nan], ml_dtypes.bfloat16),
    "float8": np.array([[0.5], [2]], ml_dtypes.float8_e4m3fn),
    "0-d": np.array(2.5),
    "0-d of bfloat16": np.array(2.5, ml_dtypes.bfloat16),
    "empty": np.zeros((0, 3), np.float16),
    "big-endian": np.arange(3, dtype=">i4"),
    "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "a view": np.arange(10)[::-3],
    "text": np.array(["a", "ключ"]),
    "bytes": np.array([b"a", b"bc"]),
    "dates": np.array(["2026-01-01", "NaT"], "M8[D]"),
    "records": np.array([(1, 2.5)], [("n", "i4"), ("x", "f8")]),
}
VALUES: dict[str, Any] = {
    "none": None, "yes": True, "no": False, "zero": 0, "int": -(2**63), "large": 10**5000,
    "negative": -(2**64), "float": 0.1, "minus zero": -0.0, "infinite": -math.inf, "complex": 1 - 2j,
    "text": "a\0b\ud800ключ", "bytes": bytes(range(256)), "no bytes": b"", "array": bytearray(b"\0x"),
    "@bfloat16": 1, "state": 2, "epoch": 3, "": 4,
    "nested": {"a": {"b": [1, (2.0, [None, {}])]}, 0: "zero", -1: b"one", 1.5: 1, None: 2, True: 3},
    "lists": [[], (), {}, [{"x": (b"y",)}]], "scalar": np.float32(0.1), "true": np.bool_(True),
    "half": ml_dtypes.bfloat16(0.5), "name": np.str_("a"),
}  # fmt: skip


def stored(state: Any) -> Any:
    """As a worker stores it and the next one reads it."""
    return read(Checkpoint.decode(Checkpoint(1, Outline(state).copy()).encode()).arrays)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_with_its_type_shape_and_bits(name: str) -> None:
    array = ARRAYS[name]
    found = stored({name: array})[name]
    assert (found.dtype, found.shape, found.tobytes()) == (
        array.dtype,
        array.shape,
        array.tobytes(),
    )
    assert found.flags.writeable and found.flags.f_contiguous == np.array(array).flags.f_contiguous


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_was(name: str) -> None:
    (key, found), *_ = stored({name: VALUES[name], "other": 0}).items()
    assert key == name and type(found) is type(VALUES[name])
    assert repr(found) == repr(VALUES[name]) if name != "large" else found == VALUES[name]


def test_the_states_of_random_generators_and_many_libraries_fit() -> None:
    generator, own = np.random.default_rng(3), random.Random(3)
    mapping = OrderedDict(weights=np.ones(2))
    found = stored(
        {
            "pcg": generator.bit_generator.state,
            "mt": np.random.RandomState(1).get_state(legacy=False),
            "python": own.getstate(),
            "mapping": mapping,
        }
    )
    again, other = np.random.default_rng(), random.Random()
    again.bit_generator.state = found["pcg"]
    other.setstate(found["python"])
    np.random.RandomState().set_state(found["mt"])
    assert again.random() == generator.random() and other.random() == own.random()
    assert found["mapping"]["weights"].tolist() == [1.0, 1.0]


def test_what_other_libraries_have_as_arrays_comes_back_as_numpys() -> None:
    import pandas as pd
    import tensorflow as tf

    given = {
        "series": pd.Series([1.5, 2.5]),
        "tensor": tf.constant([1, 2]),
        "variable": tf.Variable(3.0),
    }
    found = stored(given)
    assert {name: value.tolist() for name, value in found.items()} == {
        "series": [1.5, 2.5], "tensor": [1, 2], "variable": 3.0
    }  # fmt: skip


def test_a_tensor_of_pytorch_comes_back_as_one() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    found = stored(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "parameter": model.weight,
            "half": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
            "single": torch.tensor(True),
            "complex": torch.tensor([1 + 2j]).conj(),
            "empty": torch.zeros(0, 3),
        }
    )
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["random"])
    assert torch.equal(found["parameter"], model.weight)
    assert found["half"].dtype == torch.bfloat16 and found["half"].tolist() == [0.5, -2.0]
    assert found["single"].item() is True and found["single"].shape == ()
    assert found["complex"].tolist() == [1 - 2j] and found["empty"].shape == (0, 3)


def test_the_state_is_copied_when_the_checkpoint_is_due() -> None:
    weights = np.zeros(2)
    copied = Outline({"weights": weights}).copy()
    weights += 1
    assert read(copied)["weights"].tolist() == [0, 0]


class Own:
    pass


_loop: list[Any] = []
_loop.append(_loop)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ([1], "the state is a list; it must be a mapping of names to arrays, numbers, text or bytes"),
        ({1: 2}, "the state's name 1 is a int; it must be text"),
        ({"model": Own()}, "the state['model'] is a Own; a state holds arrays, numbers, text, bytes"),
        ({"a": [0, {"b": {1}}]}, "the state['a'][1]['b'] is a set; a state holds"),
        ({"a": {(1, 2): 3}}, "the key (1, 2) of the state['a'] is a tuple; use text or numbers"),
        ({"a": np.array([Own()])}, "the state['a'] is an array of object, which holds Python objects"),
        ({"a": np.ma.array([1])}, "the state['a'] is a MaskedArray; store its data and its mask"),
        ({"a": _loop}, "is nested too deeply"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_named_with_its_type(state: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=re.escape(reason)) as refused:
        Outline(state).copy()
    assert "\n" not in str(refused.value)


def test_nothing_is_unpickled_and_another_objectives_state_is_named() -> None:
    buffer = io.BytesIO()
    header = np.frombuffer(b'{"step": 1, "facts": {}}', np.uint8)
    np.savez(buffer, __checkpoint__=header, state=np.array([Own()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Checkpoint.decode(buffer.getvalue())
    with pytest.raises(ObjectiveError, match=r"was not written by orch\.checkpoint"):
        read({"weights": np.zeros(1)})


def test_under_plain_optuna_both_do_nothing() -> None:
    def objective(trial: optuna.Trial) -> float:
        assert orch.restore(trial) is None
        orch.checkpoint(trial, 1, {"anything": object()})
        return trial.suggest_float("x", 0, 1)

    study = optuna.create_study()
    study.optimize(objective, n_trials=1)
    assert objective(optuna.trial.FixedTrial({"x": 0.5})) == 0.5  # type: ignore[arg-type]
    assert study.trials[0].user_attrs == {} == study.trials[0].system_attrs
