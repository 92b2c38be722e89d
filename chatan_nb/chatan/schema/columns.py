"""The kinds of column a schema can hold; data only, and what a user's value becomes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from chatan.schema.samplers import SampleFunction, SampleNamespace, is_frozen_distribution, sample
from chatan.schema.structured import Answer

Kind = Literal["sampler", "prompt", "function", "static", "source"]

WHOLE_ROW = ("row", "ctx")
"""Names of a single parameter that asks for the whole row so far."""


@dataclass(frozen=True, eq=False)
class Column:
    """A column, whatever fills it."""

    kind: ClassVar[Kind]


@dataclass(frozen=True, eq=False)
class StaticColumn(Column):
    """The same value in every row."""

    kind: ClassVar[Kind] = "static"
    value: Any


@dataclass(frozen=True, eq=False)
class SourceColumn(Column):
    """A column of rows that a user brought (``chatan.augment``); ``values`` is an Arrow array."""

    kind: ClassVar[Kind] = "source"
    values: Any


@dataclass(frozen=True, eq=False)
class SamplerColumn(Column):
    """Drawn from a distribution or a dataset."""

    kind: ClassVar[Kind] = "sampler"
    sampler: SampleFunction


@dataclass(frozen=True, eq=False)
class FunctionColumn(Column):
    """What a Python function, sync or async, makes of other columns of the row.

    ``needs`` are the columns it is given, in the order of its parameters (``None``: the whole
    row so far, as one dictionary). ``returns`` is its return annotation, or ``None``.
    """

    kind: ClassVar[Kind] = "function"
    function: Callable[..., Any]
    needs: tuple[str, ...] | None
    is_async: bool = False
    returns: Any = None
    when: Callable[..., Any] | None = None


@dataclass(frozen=True, eq=False)
class PromptColumn(Column):
    """A prompt for a model.

    ``messages`` are (role, template) pairs, the system prompt among them. ``source`` (whom to
    ask) and ``call`` (with which parameters) are opaque here: the engine hands them on.
    ``when`` is a function of the row: where it is false the cell is skipped.
    """

    kind: ClassVar[Kind] = "prompt"
    messages: tuple[tuple[str, str], ...]
    source: Any = field(repr=False)
    call: Any = field(repr=False)
    answer: Answer | None = None
    reuse: bool = False
    fail_on_length: bool = False
    when: Callable[..., Any] | None = None

    @property
    def prompt(self) -> str:
        """The template of the last user message."""
        return next(text for role, text in reversed(self.messages) if role == "user")

    @property
    def system(self) -> str | None:
        """The template of the system prompt, if there is one."""
        return next((text for role, text in self.messages if role == "system"), None)


def function(
    fn: Callable[..., Any],
    needs: Sequence[str] | None = None,
    *,
    when: Callable[..., Any] | None = None,
) -> FunctionColumn:
    """A function column, with the columns it needs where its signature does not say.

    Parameters
    ----------
    fn
        Sync or async; called once a row with the values of ``needs``, in that order. Without
        ``needs`` its parameter names are the columns; one parameter named ``row`` or ``ctx``
        is given a dictionary of the columns declared above it.
    needs
        Names of the columns to pass by position.
    when
        A function like ``fn``; the cell is skipped where it returns false.

    Raises
    ------
    TypeError
        If the signature cannot be read, or a parameter can name no column, and ``needs`` is
        not given.

    >>> import chatan
    >>> ds = chatan.dataset({"a": "x", "n": chatan.function(len, needs=["a"])})
    >>> ds.generate(2)["n"].tolist()
    [1, 1]
    """
    if not callable(fn):
        raise TypeError(f"a function column needs a callable, not {fn!r}")
    returns = getattr(fn, "__annotations__", {}).get("return")
    return FunctionColumn(
        function=fn,
        needs=parameter_names(fn) if needs is None else tuple(needs),
        is_async=_is_async(fn),
        returns=returns,
        when=when,
    )


def parameter_names(fn: Callable[..., Any]) -> tuple[str, ...] | None:
    """The columns that ``fn`` asks for by its parameter names; ``None`` for the whole row."""
    hint = "write chatan.function(fn, needs=[...]) to name the columns it is given"
    name = getattr(fn, "__qualname__", repr(fn))
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        raise TypeError(f"the signature of {name} cannot be read: {hint}") from None
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if parameter.default is parameter.empty and not names:
                raise TypeError(f"{name}({parameter}) does not say which columns it needs: {hint}")
            continue
        if parameter.default is not parameter.empty:
            continue  # a default that the user gave stays: lambdas bind loop variables so
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise TypeError(f"{name} has a keyword-only parameter {parameter.name!r}: {hint}")
        names.append(parameter.name)
    if len(names) == 1 and names[0] in WHOLE_ROW:
        return None
    return tuple(names)


def as_column(value: Any) -> Column:
    """The column that a user's value in a schema stands for."""
    if isinstance(value, Column):
        return value
    if isinstance(value, SampleFunction):
        return SamplerColumn(value)
    if isinstance(getattr(value, "__self__", None), SampleNamespace):
        raise TypeError(f"sample.{value.__name__} is to be called: sample.{value.__name__}(...)")
    if (hint := getattr(value, "no_column", None)) is not None:
        raise TypeError(hint)
    if is_frozen_distribution(value):
        return SamplerColumn(sample.distribution(value))
    if callable(value) and not isinstance(value, type):
        return function(value)
    return StaticColumn(value)


def _is_async(fn: Callable[..., Any]) -> bool:
    call = getattr(fn, "__call__", None)  # noqa: B004 - an object with an async __call__ counts
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)
