"""A call of ``fit``: a model's, with its arguments by name, or a user's, as KerasTuner makes it."""

from __future__ import annotations

import ast
import functools
import inspect
import logging
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.training import fast_fit

if TYPE_CHECKING:
    from orchestrator.training.fitting import Fitting

_log = logging.getLogger("orch")

_BATCH_SIZE = 32  # Keras's own
_KEYWORDS = {
    "callbacks", "validation_data", "epochs", "initial_epoch", "verbose", "batch_size",
}  # fmt: skip


class FitCall:
    """One call of ``fit`` with its arguments by name.

    Attributes:
        model: whose ``fit`` is called.
        given: the arguments; may be changed before :meth:`run`.
    """

    def __init__(self, model: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        import keras

        self.model = model
        self._method = type(model).fit
        self._is_keras = self._method is keras.Model.fit
        kinds = inspect.signature(self._method).parameters.values()
        # A fit(*args, **kwargs) passes its arguments on to Keras's.
        passes_on = any(each.kind is each.VAR_POSITIONAL for each in kinds)
        method = keras.Model.fit if passes_on else self._method
        names = list(inspect.signature(method).parameters)[1:]
        self.given = {**dict(zip(names, arguments, strict=False)), **keywords}
        self._arguments = tuple(arguments) if passes_on else ()
        self._positional = set(names[: len(arguments)]) if passes_on else set()

    def run(self, seeds: tuple[int, ...]) -> Any:
        obstacle: str | None = "a fit of the model's own"
        if self._is_keras:
            obstacle = fast_fit.obstacle(self.model, self.given)
        if obstacle is None:
            return fast_fit.fit(self.model, seeds=seeds, **self.given)
        _log.debug("trains with Keras's own loop because of %s", obstacle)
        keywords = {name: each for name, each in self.given.items() if name not in self._positional}
        return self._method(self.model, *self._arguments, **keywords)


def call_fit(fit: Callable[..., Any], leading: Sequence[Any], fitting: Fitting) -> Any:
    """Call a user's ``fit`` as KerasTuner calls it, with what its signature takes.

    Args:
        fit: e.g. ``HyperModel.fit``.
        leading: its first arguments, e.g. ``hp`` and the model.
        fitting: the training; its reporter is one of the callbacks.
    """
    plan, reporter = fitting.plan, fitting.reporter
    data, keywords = fitting.split.fit_arguments()
    keywords["callbacks"] = [*own_callbacks(keywords.get("callbacks"), reporter), reporter]
    parameters = list(inspect.signature(fit).parameters.values())
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        places = len(data)
    else:
        named = [each for each in parameters[len(leading) :] if each.kind is not each.KEYWORD_ONLY]
        known = {*keywords, *_KEYWORDS}
        places = sum(each.kind is not each.VAR_KEYWORD for each in named if each.name not in known)
    named_too = {
        "epochs": plan.epochs,
        "initial_epoch": 0,
        "verbose": 0,
        "batch_size": plan.batch_size or _BATCH_SIZE,
    }
    for each in parameters[len(leading) :]:
        is_wanted = each.name == "epochs" or each.default is each.empty
        if each.name in named_too and is_wanted:
            keywords.setdefault(each.name, named_too[each.name])
    others = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
    if others is None:
        taken = {each.name for each in parameters}
        keywords = {name: each for name, each in keywords.items() if name in taken}
    elif _reads(fit, others, "epochs"):
        keywords.setdefault("epochs", plan.epochs)
    with _followed_fits(fitting):
        return fit(*leading, *data[:places], **keywords)


@contextmanager
def _followed_fits(fitting: Fitting) -> Iterator[None]:
    """Within the block, a Keras ``fit`` that is given the reporter is part of the training.

    A user's ``fit`` may make its model by any function: it is known by the callbacks it passes on.
    """
    import keras

    keras_fit = keras.Model.fit
    before = vars(keras.Model).get("fit")  # inherited, where nobody has replaced it

    @functools.wraps(keras_fit)
    def fit(model: Any, *arguments: Any, **keywords: Any) -> Any:
        is_inner = type(model).fit is not fit  # called by a fit of the model's own class
        if is_inner or fitting.fits(model) or not _is_told(fitting, model, arguments, keywords):
            return keras_fit(model, *arguments, **keywords)
        return fitting.fit(model, *arguments, **keywords)

    keras.Model.fit = fit
    try:
        yield
    finally:
        if before is None:
            del keras.Model.fit
        else:
            keras.Model.fit = before


def _is_told(
    fitting: Fitting, model: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> bool:
    """Whether a call of ``fit`` passes the reporter on."""
    import keras

    callbacks = FitCall(model, arguments, keywords).given.get("callbacks")
    listed = getattr(callbacks, "callbacks", callbacks)
    return any(each is fitting.reporter for each in keras.tree.flatten(listed or []))


def _reads(function: Callable[..., Any], keywords: str, name: str) -> bool:
    """Whether a function looks for a keyword among its others, as in ``kwargs.pop("epochs")``.

    It is then given; one that only passes them on may say ``epochs`` itself beside them.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    reads = (f"{keywords}[{name!r}]", f"{keywords}.pop({name!r}", f"{keywords}.get({name!r}")
    return any(
        ast.unparse(node).startswith(reads)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        or (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load))
    )


def own_callbacks(callbacks: Any, reporter: Any) -> list[Any]:
    """The user's own callbacks, as a list; without ``BackupAndRestore``, whose work orch does.

    Trials share its folder: each would restore what another one has backed up there.
    """
    import keras

    if callbacks is None:
        return []
    listed = getattr(callbacks, "callbacks", callbacks)
    each = list(listed) if isinstance(listed, list | tuple) else [listed]
    kept = [one for one in each if not isinstance(one, keras.callbacks.BackupAndRestore)]
    if len(kept) < len(each):
        _log.warning("BackupAndRestore is left out: orch itself resumes a training that was lost")
    return [one for one in kept if one is not reporter]


def with_reporter(given: Any, callbacks: list[Any], reporter: Any) -> Any:
    """The callbacks with the reporter as the last."""
    if hasattr(given, "callbacks"):  # a CallbackList, made for its model
        given.callbacks = [*callbacks, reporter]
        reporter.set_model(given.model)
        return given
    return [*callbacks, reporter]


def can_evaluate(model: Any) -> bool:
    """Whether ``evaluate`` can work; a GAN trains by its own step and cannot be called."""
    import keras

    names = ("test_step", "call")
    is_plain = all(getattr(type(model), name) is getattr(keras.Model, name) for name in names)
    return not is_plain or type(model).train_step is keras.Model.train_step
