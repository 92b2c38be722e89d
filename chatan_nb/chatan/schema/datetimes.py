"""Samplers of moments in time."""

from __future__ import annotations

import datetime as dt
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatan.schema.nearest import suggestion
from chatan.schema.randomness import below
from chatan.schema.sampling import Transform
from chatan.schema.values import number_faults, plain, texts_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from chatan.schema.randomness import Words

_MICROSECOND = dt.timedelta(microseconds=1)
_SECOND = dt.timedelta(seconds=1)
_DAY = dt.timedelta(days=1)
_UNITS = {
    "microsecond": _MICROSECOND,
    "millisecond": dt.timedelta(milliseconds=1),
    "second": _SECOND,
    "minute": dt.timedelta(minutes=1),
    "hour": dt.timedelta(hours=1),
    "day": _DAY,
    "week": dt.timedelta(weeks=1),
}
_ISO_LENGTH = len("2024-01-31 12:00:00.000000")
_PLACES = {
    "%Y": slice(0, 4),
    "%y": slice(2, 4),
    "%m": slice(5, 7),
    "%d": slice(8, 10),
    "%H": slice(11, 13),
    "%M": slice(14, 16),
    "%S": slice(17, 19),
    "%f": slice(20, 26),
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DIRECTIVE = re.compile(r"%[-_^#0]?(.)")
_TIME_DIRECTIVES = frozenset("HIMSpfXTRrcs+")


class Datetime(Transform):
    """Moments from ``start`` on, a whole number of steps after it, none after ``end``."""

    def __init__(self, start: Any, end: Any, format: Any, step: Any, unit: Any) -> None:
        self._given = {"start": start, "end": end}
        self._format, self._given_step, self._unit = format, step, unit

    def faults(self) -> list[str]:
        faults = self._format_faults() or self._step_faults() + self._read_faults()
        if faults:
            return faults
        if (self._start.tzinfo is None) != (self._end.tzinfo is None):
            return ["only one of start and end has a time zone; give both one, or neither"]
        if self._count < 1:
            swap = "write them the other way round"
            return [f"start ({self._start}) is after end ({self._end}); {swap}"]
        return []

    def transform(self, words: Words) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        steps = below(words[:, 0], self._count)
        moments = steps * (self._step // _MICROSECOND) + _microseconds(self._start)
        if self._format is None:
            return pa.array(moments).view(pa.array([self._start]).type)
        pieces = _pieces(self._format)
        if pieces is not None and self._start.tzinfo in {None, dt.UTC}:
            return _digits(moments, pieces)
        # strftime is slow, and dates come up often: each is written once
        distinct, index = np.unique(moments, return_inverse=True)
        return pa.array(map(self._text, distinct.tolist()), pa.string()).take(pa.array(index))

    def _read_faults(self) -> list[str]:
        faults = []
        for name in self._given:
            try:
                self._read(name)
            except ValueError as error:
                faults.append(str(error))
        return faults

    def _read(self, name: str) -> dt.datetime:
        """The start or the end. Raises ``ValueError`` if it is none."""
        given = plain(self._given[name])
        if isinstance(given, str):
            given = self._parsed(name, given)
        if isinstance(given, dt.date) and given == given:  # noqa: PLR0124 - NaT is not itself
            if hasattr(given, "to_pydatetime"):
                given = given.to_pydatetime(warn=False)
            if isinstance(given, dt.datetime):
                return given
            # a day named as the end belongs to the range from morning to midnight
            past = _DAY - _MICROSECOND if name == "end" else 0 * _DAY
            return dt.datetime.combine(given, dt.time()) + past
        raise ValueError(f"{name} is {given!r}; write '2024-01-31', a date or a datetime")

    def _parsed(self, name: str, text: str) -> dt.date:
        if self._format is not None:
            try:
                moment = dt.datetime.strptime(text, self._format)  # noqa: DTZ007 - a zone if %z
                return moment if self._writes_time else moment.date()
            except ValueError:
                pass
        for read in (dt.date.fromisoformat, dt.datetime.fromisoformat):
            try:
                return read(text)
            except ValueError:
                pass
        wanted = "like '2024-01-31' or '2024-01-31T12:00'"
        if self._format is not None:
            wanted += f", and not in the format {self._format!r}"
        raise ValueError(f"{name} is {text!r}, which is no date {wanted}")

    def _text(self, microseconds: int) -> str:
        moment = _EPOCH + microseconds * _MICROSECOND
        zone = self._start.tzinfo
        moment = moment.astimezone(zone) if zone else moment.replace(tzinfo=None)
        return moment.strftime(self._format)

    @cached_property
    def _start(self) -> dt.datetime:
        return self._read("start")

    @cached_property
    def _end(self) -> dt.datetime:
        return self._read("end")

    @property
    def _writes_time(self) -> bool:
        return not _TIME_DIRECTIVES.isdisjoint(_DIRECTIVE.findall(self._format))

    @cached_property
    def _step(self) -> dt.timedelta:
        """As the user says; else the finest that the format writes, or a second."""
        step = self._given_step
        if isinstance(step, dt.timedelta):
            return step
        if self._unit is not None:
            return (1 if step is None else step) * _UNITS[_singular(self._unit)]
        if self._format is not None and "f" in _DIRECTIVE.findall(self._format):
            return _MICROSECOND
        return _SECOND if self._format is None or self._writes_time else _DAY

    @property
    def _count(self) -> int:
        span = _microseconds(self._end) - _microseconds(self._start)
        return span // (self._step // _MICROSECOND) + 1

    def _format_faults(self) -> list[str]:
        if self._format is None:
            return []
        if not isinstance(self._format, str) or not _DIRECTIVE.search(self._format):
            return [f"format is {self._format!r}, without directives; write e.g. '%Y-%m-%d %H:%M'"]
        try:
            _EPOCH.strftime(self._format)
        except ValueError as error:
            return [f"format is {self._format!r}: {error}"]
        return []

    def _step_faults(self) -> list[str]:
        step, unit = self._given_step, self._unit
        units = f"the units are {', '.join(f'{name}s' for name in _UNITS)}"
        if unit is not None and (not isinstance(unit, str) or _singular(unit) not in _UNITS):
            hint = suggestion(_singular(unit), _UNITS) if isinstance(unit, str) else ""
            return [f"unit is {unit!r}{hint}; {units}"]
        if isinstance(step, dt.timedelta):
            if unit is not None:
                return ["step is a timedelta, which has units of its own; leave unit= out"]
        elif step is not None:
            if wrong := number_faults("step", step):
                return wrong
            if unit is None:
                return [f"step is {step} of no unit; write unit='minutes' or so: {units}"]
        try:
            return [f"step is {step}; write one above 0"] if self._step < _MICROSECOND else []
        except OverflowError:
            return [f"step is {step} {unit}, longer than any calendar; write a shorter one"]


def _pieces(format: str) -> list[bytes | slice] | None:
    """A format as literal text and places of the ISO text; ``None`` if it has other parts."""
    pieces: list[bytes | slice] = []
    for literal, directive in re.findall(r"([^%]*)(%[-_^#0]?.|$)", format, re.DOTALL):
        pieces.append(literal.encode())
        if directive == "%%":
            pieces.append(b"%")
        elif directive in _PLACES:
            pieces.append(_PLACES[directive])
        elif directive:
            return None
    return pieces


def _digits(moments: npt.NDArray[np.int64], pieces: list[bytes | slice]) -> pa.Array:
    """The moments as text, put together from pieces of their ISO text, all at once."""
    import numpy as np
    import pyarrow as pa

    iso = pa.array(moments).view(pa.timestamp("us")).cast(pa.string())
    octets = np.frombuffer(iso.buffers()[2] or b"", np.uint8)[: len(moments) * _ISO_LENGTH]
    octets = octets.reshape(len(moments), _ISO_LENGTH)
    columns = [
        np.broadcast_to(np.frombuffer(piece, np.uint8), (len(moments), len(piece)))
        if isinstance(piece, bytes)
        else octets[:, piece]
        for piece in pieces
    ]
    return texts_of(np.concatenate(columns, axis=1))


def _singular(unit: str) -> str:
    return unit.casefold().strip().removesuffix("s")


def _microseconds(moment: dt.datetime) -> int:
    """Since 1970, by UTC; a moment without a time zone counts as if it were in UTC."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (zoned - _EPOCH) // _MICROSECOND
