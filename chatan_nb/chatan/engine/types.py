"""The type of a column: what its values are, how it widens, and which value fits no more."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_INT64 = range(-(2**63), 2**63)
_SIMPLE: tuple[type[Any], ...] = (str, int, float, bytes)


class ColumnType:
    """What a column's values are; it begins unknown and widens from int to float.

    ``fixed`` is the type that an annotation promised: values are made to fit it, or fail.

    >>> column = ColumnType()
    >>> [column.fit(value) for value in (1, None, 2.5, 3)]
    [1, None, 2.5, 3.0]
    >>> column.arrow
    DataType(double)
    """

    __slots__ = ("_fixed", "_python", "arrow")

    def __init__(self, fixed: pa.DataType | None = None) -> None:
        self.arrow: pa.DataType | None = fixed
        self._fixed = fixed is not None
        self._python: type | None = None if fixed is None else _python_of(fixed)

    @property
    def stored(self) -> pa.DataType:
        """The Arrow type of its values; null while none has come."""
        import pyarrow as pa

        return pa.null() if self.arrow is None else self.arrow  # a type without fields is false

    def fit(self, value: Any) -> Any:
        """The value as the column holds it.

        Raises
        ------
        ValueError
            If the value fits no more; the message says what the column holds.
        """
        kind = type(value)
        if kind is str and not value.isascii():
            _refuse_half_characters(value)
        if kind is self._python:
            if kind is int and value not in _INT64:
                raise ValueError(f"{value} is beyond 64 bits; return it as text")
            return value
        if value is None:
            return None
        return self._fit_slowly(value)

    def _fit_slowly(self, value: Any) -> Any:
        import pyarrow as pa

        try:
            found = pa.scalar(value).type
            if self._fixed:
                return self._as_promised(value, found)
            wider = found if self.arrow is None else joined(self.arrow, found)
        except OverflowError:
            raise ValueError(f"{_shown(value)} is beyond 64 bits; return it as text") from None
        except (pa.ArrowException, ValueError) as error:
            raise ValueError(f"{_shown(value)}: {_clean(error)}") from None
        if wider != self.arrow:
            self.arrow, self._python = wider, _python_of(wider)
        return float(value) if self._python is float and type(value) is int else value

    def _as_promised(self, value: Any, found: pa.DataType) -> Any:
        import pyarrow as pa

        fitted = pa.scalar(value, self.arrow).as_py()
        # Arrow cuts 2.5 to 2 and a text into its letters without a word
        if fitted != value and joined(self.arrow, found) != self.arrow:
            raise ValueError(f"it is {found}, but the column holds {self.arrow}")
        return fitted


def _python_of(kind: pa.DataType) -> type | None:
    """The Python type whose values need no closer look in a column of this type."""
    return {"string": str, "int64": int, "double": float, "bool": bool}.get(str(kind))


def joined(held: pa.DataType, found: pa.DataType) -> pa.DataType:
    """The type that holds both: ints widen to floats, structures take all fields.

    Raises
    ------
    ValueError
        If there is none.
    """
    import pyarrow as pa

    schemas = [pa.schema({"it": held}), pa.schema({"it": found})]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("it").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        raise ValueError(f"it is {found}, but the column holds {held}") from None


def packed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of a column as an Arrow array of its type, which may have widened since they came."""
    import pyarrow as pa

    try:
        return pa.array(values, type=kind)
    except pa.ArrowInvalid:  # a whole number that no float holds exactly
        return pa.array([_widened(value, kind) for value in values], type=kind)


def recast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array of a column in the type to which the column has widened."""
    import pyarrow as pa

    try:
        return array if array.type == kind else array.cast(kind)
    except pa.ArrowException:
        return packed(array.to_pylist(), kind)


def _widened(value: Any, kind: pa.DataType) -> Any:
    import pyarrow as pa

    if pa.types.is_floating(kind) and type(value) is int:
        return float(value)
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_widened(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {field.name: _widened(value.get(field.name), field.type) for field in kind}
    return value


def plain(value: Any) -> Any:
    """What a function gave, as plain Python values that a table can hold.

    numpy and pandas scalars and arrays, enums, dataclasses, pydantic models, tuples and sets
    become what they stand for; pandas' missing values become ``None``.
    """
    kind = type(value)
    if value is None or kind is bool or kind in _SIMPLE:
        if kind is str and not value.isascii():
            _refuse_half_characters(value)
        return value
    if kind.__module__.startswith("pandas.") and kind.__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, enum.Enum):
        return plain(value.value)
    for simple in _SIMPLE:
        if isinstance(value, simple):
            return plain(simple(value))
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if callable(dump := getattr(value, "model_dump", None)):
        return plain(dump(mode="json"))
    if callable(convert := getattr(value, "to_pydatetime", None)):
        return convert(warn=False) if kind.__name__ == "Timestamp" else convert()
    if kind.__module__ == "numpy" and value.dtype.name.endswith("64[ns]"):
        value = value.astype(value.dtype.name.replace("ns", "us"))  # or it would be a bare number
    for name in ("tolist", "item"):
        if callable(convert := getattr(value, name, None)):
            return plain(convert())
    if isinstance(value, dt.date | dt.time | dt.timedelta | decimal.Decimal):
        return value
    raise ValueError(
        f"{_shown(value)} cannot stand in a table; return text, numbers, lists or dicts"
    )


def _refuse_half_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds half a character (a lone surrogate, at {error.start}), "
            "which no file can store"
        ) from None


def annotated_type(function: Callable[..., Any], annotation: Any) -> pa.DataType | None:
    """The Arrow type of a return annotation such as ``list[str] | None``, if it has one."""
    if annotation is None:
        return None
    if isinstance(annotation, str):
        try:
            annotation = typing.get_type_hints(function).get("return")
        except (NameError, TypeError, AttributeError):
            return None
    return _arrow_of(annotation)


def _arrow_of(annotation: Any) -> pa.DataType | None:
    import pyarrow as pa

    simple = {
        str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(),
        bytes: pa.binary(), dt.date: pa.date32(), dt.timedelta: pa.duration("us"),
    }  # fmt: skip
    if isinstance(annotation, type) and annotation in simple:
        return simple[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        rest = [argument for argument in arguments if argument is not type(None)]
        return _arrow_of(rest[0]) if len(rest) == 1 else None
    if origin is list and (inner := _arrow_of(arguments[0])):
        return pa.list_(inner)
    return None


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _clean(error: Exception) -> str:
    return str(error).splitlines()[0]
