"""Samplers of numbers: distributions, each by its inverse at a random share of its mass."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatan.schema.randomness import below, open_unit, unit
from chatan.schema.sampling import Transform
from chatan.schema.values import number_faults

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from chatan.schema.randomness import Words

_LARGEST_RATE = 1e9


class Uniform(Transform):
    """Numbers from ``low`` (included) to ``high`` (excluded)."""

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = low, high

    def faults(self) -> list[str]:
        return _order_faults("low", self.low, "high", self.high)

    def transform(self, words: Words) -> pa.Array:
        import pyarrow as pa

        return pa.array(_between(words, float(self.low), float(self.high)))


class Range(Transform):
    """Whole numbers, or the multiples of a step, both ends included; else like ``Uniform``."""

    def __init__(self, start: Any, end: Any, step: Any = None) -> None:
        self.start, self.end, self.step = start, end, step

    def faults(self) -> list[str]:
        faults = _order_faults("start", self.start, "end", self.end)
        if self.step is not None:
            wrong = number_faults("step", self.step)
            faults += wrong or (
                [] if self.step > 0 else [f"step is {self.step}; write a number above 0"]
            )
        if faults:
            return faults
        if self._is_whole and not -(2**63) <= self.start <= self.end < 2**63:
            faults.append(f"{self.start} to {self.end} does not fit into 64 bits")
        elif self._has_steps and self._count >= 2**64:
            faults.append(f"{self._count} values are too many; write a larger step")
        return faults

    def values(self) -> list[Any] | None:
        return self._at(range(self._count)) if self._has_steps and self._count <= 1000 else None

    def transform(self, words: Words) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        if not self._has_steps:
            return pa.array(_between(words, float(self.start), float(self.end)))
        index = below(words[:, 0], self._count)
        if self._is_whole:
            step = 1 if self.step is None else int(self.step)
            # int64 wraps on the way to a sum that fits: a span may be twice the largest int64
            return pa.array(index * np.int64(step) + np.int64(self.start))
        return pa.array(self._at(index.view(np.uint64).tolist()), pa.float64())

    @cached_property
    def _is_whole(self) -> bool:
        given = (self.start, self.end, 1 if self.step is None else self.step)
        return all(isinstance(value, numbers.Integral) for value in given)

    @property
    def _has_steps(self) -> bool:
        return self._is_whole or self.step is not None

    @cached_property
    def _exact(self) -> tuple[Fraction, Fraction]:
        """Start and step as they are written: 0.1 is a tenth, so that steps do not drift."""
        from fractions import Fraction

        return Fraction(str(self.start)), Fraction(str(1 if self.step is None else self.step))

    @cached_property
    def _count(self) -> int:
        from fractions import Fraction

        start, step = self._exact
        return int((Fraction(str(self.end)) - start) // step) + 1

    def _at(self, indices: Sequence[int]) -> list[Any]:
        """The values at these numbers of steps from the start."""
        start, step = self._exact
        scale = start.denominator * step.denominator
        first, stride = int(start * scale), int(step * scale)
        if self._is_whole:
            return [first + index * stride for index in indices]
        return [(first + index * stride) / scale for index in indices]


class Normal(Transform):
    """The normal distribution."""

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = mean, std

    def faults(self) -> list[str]:
        wrong = number_faults("std", self.std)
        if not wrong and self.std < 0:
            wrong = [f"std is {self.std}; write a number of 0 or more"]
        return number_faults("mean", self.mean) + wrong

    def transform(self, words: Words) -> pa.Array:
        from statistics import NormalDist

        import numpy as np
        import pyarrow as pa

        shares = open_unit(words[:, 0]).tolist()
        deviations = np.array(list(map(NormalDist().inv_cdf, shares)), np.float64)
        return pa.array(float(self.mean) + float(self.std) * deviations)


class Poisson(Transform):
    """How many of the events that come at a steady rate come in one unit of time."""

    def __init__(self, rate: Any) -> None:
        self.rate = rate

    def faults(self) -> list[str]:
        wrong = number_faults("rate", self.rate)
        if not wrong and self.rate < 0:
            wrong = [f"rate is {self.rate}; write a number of 0 or more"]
        if not wrong and self.rate > _LARGEST_RATE:
            wrong = [f"rate is {self.rate}, above {_LARGEST_RATE:.0e}; write a normal distribution"]
        return wrong

    def transform(self, words: Words) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        least, shares = self._table
        index = np.searchsorted(shares, unit(words[:, 0]), side="right")
        return pa.array(index.astype(np.int64) + least)

    @cached_property
    def _table(self) -> tuple[int, npt.NDArray[np.float64]]:
        """The least count, and for it and those after it the share of mass up to there.

        Made from the mode outward, by the ratio of neighbours: no power and no factorial that
        could overflow. What lies outside has less mass than a random number has digits.
        """
        import numpy as np

        rate = float(self.rate)
        mode = int(rate)
        reach = int(12 * rate**0.5) + 60
        least = max(0, mode - reach)
        above = np.cumprod(rate / np.arange(mode + 1, mode + reach + 1, dtype=np.float64))
        under = np.cumprod(np.arange(mode, least, -1, dtype=np.float64) / rate)
        shares = np.cumsum(np.concatenate([under[::-1], [1.0], above]))
        return least, np.where(shares >= shares[-1], 1.0, shares / shares[-1])


class Bernoulli(Transform):
    """True with probability ``p``."""

    def __init__(self, p: Any) -> None:
        self.p = p

    def faults(self) -> list[str]:
        wrong = number_faults("p", self.p)
        if not wrong and not 0 <= self.p <= 1:
            wrong = [f"p is {self.p}; write a probability from 0 to 1"]
        return wrong

    def values(self) -> list[Any] | None:
        return [value for value, p in ((True, self.p), (False, 1 - self.p)) if p > 0]

    def transform(self, words: Words) -> pa.Array:
        import pyarrow as pa

        return pa.array(unit(words[:, 0]) < float(self.p))


class Distribution(Transform):
    """A frozen distribution of ``scipy.stats``."""

    def __init__(self, frozen: Any) -> None:
        self.frozen = frozen

    def faults(self) -> list[str]:
        import numpy as np

        if not is_frozen_distribution(self.frozen):
            return [f"{self.frozen!r} is no frozen distribution; write e.g. scipy.stats.norm(0, 1)"]
        try:
            median = np.asarray(self.frozen.ppf(0.5))
        except (TypeError, ValueError) as error:
            return [f"the distribution cannot be drawn from: {error}"]
        if median.ndim:
            return ["the distribution has arrays for parameters; write one number for each"]
        if not np.isfinite(median):
            return ["the distribution gives no numbers; a parameter is outside of its domain"]
        return []

    def transform(self, words: Words) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        drawn = pa.array(np.asarray(self.frozen.ppf(open_unit(words[:, 0])), np.float64))
        is_discrete = hasattr(self.frozen, "pmf")
        return drawn.cast(pa.int64()) if is_discrete else drawn


def is_frozen_distribution(value: Any) -> bool:
    """Whether the value is a frozen distribution, as ``scipy.stats`` makes them."""
    return hasattr(type(value), "ppf") and hasattr(value, "dist")


def _order_faults(first: str, low: Any, last: str, high: Any) -> list[str]:
    faults = number_faults(first, low) + number_faults(last, high)
    if not faults and low > high:
        faults.append(f"{first} ({low}) is above {last} ({high}); write them the other way round")
    return faults


def _between(words: Words, low: float, high: float) -> npt.NDArray[np.float64]:
    import numpy as np

    share = unit(words[:, 0])
    drawn = low * (1 - share) + high * share
    # rounding may reach the end, which is not included
    return np.clip(drawn, low, np.nextafter(high, low))
