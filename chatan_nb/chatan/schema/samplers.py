"""The samplers by the names that users write: ``chatan.sample``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from chatan.schema.choices import Choice, Weighted
from chatan.schema.conditional import By
from chatan.schema.datetimes import Datetime
from chatan.schema.distributions import (
    Bernoulli,
    Distribution,
    Normal,
    Poisson,
    Range,
    Uniform,
    is_frozen_distribution,
)
from chatan.schema.from_table import FromTable, TableRow
from chatan.schema.functions import Function
from chatan.schema.sampling import SampleFunction
from chatan.schema.sources import Source
from chatan.schema.uuids import Uuid

if TYPE_CHECKING:
    import numpy as np

__all__ = ["By", "SampleFunction", "SampleNamespace", "is_frozen_distribution", "sample"]

Order = Literal["random", "shuffle", "sequential"]


class SampleNamespace:
    """Samplers: columns that are drawn, from distributions and from data.

    The same (seed, column name, row number) always draws the same value: more rows, another
    order of rows or another machine change nothing. Nothing here raises for arguments that
    make no sense; ``chatan.dataset`` does, for all columns at once.

    >>> import chatan
    >>> ds = chatan.dataset({
    ...     "country": chatan.sample.choice(["France", "Japan"]),
    ...     "city": chatan.sample.by("country", {"France": ["Paris", "Lyon"], "Japan": "Kyoto"}),
    ... })
    >>> ds.generate(3)["city"].tolist()
    ['Kyoto', 'Paris', 'Lyon']
    """

    def choice(self, values: Sequence[Any] | Mapping[Any, float]) -> SampleFunction:
        """One of the values, all equally likely, or with the weights of a dictionary.

        Whole and other numbers together become float64; ``None`` is a missing value;
        dictionaries become structs. Values that cannot stand in one column are refused.

        >>> import chatan
        >>> ds = chatan.dataset({"drink": chatan.sample.choice(["tea", "coffee", "water"])})
        >>> ds.generate(4)["drink"].tolist()
        ['water', 'coffee', 'tea', 'water']
        """
        return Choice(values)

    def weighted(
        self,
        values: Mapping[Any, float] | Sequence[Any],
        weights: Sequence[float] | None = None,
    ) -> SampleFunction:
        """One of the values, each as likely as its weight says.

        ``{value: weight, ...}``, or values and weights. Weights are 0 or more and need not sum
        to 1.

        >>> import chatan
        >>> ds = chatan.dataset({"level": chatan.sample.weighted({"easy": 3, "hard": 1})})
        >>> ds.generate(4)["level"].tolist()
        ['easy', 'hard', 'easy', 'easy']
        """
        if weights is None and isinstance(values, tuple) and len(values) == 2:
            values, weights = values
        return Weighted(values, weights)

    def uuid(self) -> SampleFunction:
        """A random UUID (version 4) as text: the same for the same seed, dataset and column.

        Datasets of other names have others, so that their tables can be put together.

        >>> import chatan
        >>> ds = chatan.dataset({"id": chatan.sample.uuid()}, name="people")
        >>> ds.generate(1)["id"].tolist()
        ['06a32f5e-478e-4b09-849b-9da9895bc07a']
        """
        return Uuid()

    def datetime(
        self,
        start: str | dt.date,
        end: str | dt.date,
        format: str | None = None,
        step: dt.timedelta | float | None = None,
        unit: str | None = None,
    ) -> SampleFunction:
        """A moment from ``start`` to ``end``, both included, by whole steps from the start.

        Parameters
        ----------
        start, end
            Text in ISO form or in ``format``, dates or datetimes. An end without a time of day
            is the whole of that day. If they have time zones, the values have that of the start.
        format
            As of ``strftime``. With it the values are text; without, timestamps in microseconds.
        step
            A ``timedelta``, or a number of ``unit``; elapsed time, whatever clocks do in summer.
            If there is neither: the finest of day, second and microsecond that the format
            writes; a second without a format.
        unit
            ``"microseconds"``, ``"milliseconds"``, ``"seconds"``, ``"minutes"``, ``"hours"``,
            ``"days"`` or ``"weeks"``.

        >>> import chatan
        >>> day = chatan.sample.datetime("2024-01-01", "2024-12-31", format="%Y-%m-%d")
        >>> chatan.dataset({"day": day}).generate(2)["day"].tolist()
        ['2024-05-24', '2024-08-05']
        """
        return Datetime(start, end, format, step, unit)

    def range(self, start: float, end: float, step: float | None = None) -> SampleFunction:
        """A number of a range.

        Whole numbers: int64, both ends included. With a step: ``start + k * step``, the end
        included where it falls on a step, without rounding that adds up (steps of 0.1 give
        0.3, not 0.30000000000000004). Otherwise float64, the end excluded.

        >>> import chatan
        >>> ds = chatan.dataset({"price": chatan.sample.range(0, 1, step=0.25)})
        >>> ds.generate(4)["price"].tolist()
        [0.25, 0.0, 0.0, 1.0]
        """
        return Range(start, end, step)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> SampleFunction:
        """A number (float64) from ``low`` (included) to ``high`` (excluded).

        >>> import chatan
        >>> ds = chatan.dataset({"share": chatan.sample.uniform()})
        >>> ds.generate(2)["share"].round(3).tolist()
        [0.801, 0.312]
        """
        return Uniform(low, high)

    def normal(self, mean: float = 0.0, std: float = 1.0) -> SampleFunction:
        """A number (float64) of the normal distribution; ``std`` is its standard deviation.

        >>> import chatan
        >>> ds = chatan.dataset({"height": chatan.sample.normal(170, 10)})
        >>> ds.generate(2)["height"].round(1).tolist()
        [144.9, 179.1]
        """
        return Normal(mean, std)

    def poisson(self, rate: float) -> SampleFunction:
        """A count (int64) of the Poisson distribution; ``rate`` is its mean, at most 1e9.

        >>> import chatan
        >>> ds = chatan.dataset({"visits": chatan.sample.poisson(3)})
        >>> ds.generate(4)["visits"].tolist()
        [2, 2, 1, 4]
        """
        return Poisson(rate)

    def bernoulli(self, p: float) -> SampleFunction:
        """True with probability ``p``, otherwise false.

        >>> import chatan
        >>> ds = chatan.dataset({"churned": chatan.sample.bernoulli(0.5)})
        >>> ds.generate(4)["churned"].tolist()
        [True, False, True, True]
        """
        return Bernoulli(p)

    def distribution(self, frozen: Any) -> SampleFunction:
        """A number of a frozen distribution of ``scipy.stats``: int64 of a discrete one.

        Such a distribution may also stand in a schema by itself.

        >>> import chatan, scipy.stats
        >>> ds = chatan.dataset({"wait": chatan.sample.distribution(scipy.stats.expon(scale=5))})
        >>> ds.generate(2)["wait"].round(3).tolist()
        [5.095, 2.016]
        """
        return Distribution(frozen)

    def by(self, column: str, entries: Mapping[Any, Any], default: Any = ...) -> SampleFunction:
        """A sampler chosen by another column of the row.

        Parameters
        ----------
        column
            The column that is looked at.
        entries
            For each of its values a sampler (another ``by`` too), a list to choose from, a
            dictionary of weights, or a plain value.
        default
            The same for all other values. Without it they are refused: when the dataset is
            made if the column's values are known by then, else where such a row is drawn.

        >>> import chatan
        >>> sample = chatan.sample
        >>> ds = chatan.dataset({
        ...     "plan": sample.choice(["free", "paid"]),
        ...     "price": sample.by("plan", {"free": 0, "paid": sample.range(5, 50, step=5)}),
        ... })
        >>> ds.generate(4)["price"].tolist()
        [20, 0, 0, 0]
        """
        return By(column, entries, default)

    def function(self, fn: Callable[[np.random.Generator, int], Any]) -> SampleFunction:
        """What ``fn(rng, size)`` draws: a list or an array of ``size`` values.

        ``rng`` is a ``numpy.random.Generator`` of its own for each block of 1,024 rows, and a
        block is always drawn as a whole, so that a row stays what it is. For rows with a key
        of their own (``chatan.augment``) the function is called for each, with ``size=1``.

        >>> import chatan
        >>> pareto = chatan.sample.function(lambda rng, size: rng.pareto(3, size))
        >>> chatan.dataset({"income": pareto}).generate(2)["income"].round(3).tolist()
        [0.155, 0.969]
        """
        return Function(fn)

    def from_dataset(
        self,
        data: Any,
        column: str,
        order: Order = "random",
        cycle: bool = False,
        aligned: bool = True,
    ) -> FromTable:
        """A value of a column of a table.

        Parameters
        ----------
        data
            A pandas DataFrame, Hugging Face dataset, Arrow table, dict of lists or list of
            dicts, with at least one row. It is read when the dataset is made.
        column
            A column of ``data``.
        order
            ``"random"``: any row, again and again. ``"shuffle"``: each row once, in random
            order, then all of them again in another. ``"sequential"``: as they stand.
        cycle
            Begin again when a sequential order comes to the end. Without it, a row past the
            end fails.
        aligned
            Draw from the same row of ``data`` as other columns do that are drawn from equal
            data in the same order.

        >>> import chatan
        >>> people = {"name": ["Ada", "Alan"], "born": [1815, 1912]}
        >>> ds = chatan.dataset({
        ...     "name": chatan.sample.from_dataset(people, "name"),
        ...     "born": chatan.sample.from_dataset(people, "born"),
        ... })
        >>> ds.generate(3).values.tolist()
        [['Ada', 1815], ['Alan', 1912], ['Ada', 1815]]
        """
        return FromTable(Source(data), column, order, cycle, aligned)

    from_ds = from_dataset

    def row(self, data: Any, order: Order = "random", cycle: bool = False) -> TableRow:
        """A row of a table, to take several columns from: ``row["name"]``, ``row["age"]``.

        The arguments are those of ``from_dataset``.

        >>> import chatan
        >>> person = chatan.sample.row({"name": ["Ada", "Alan"], "born": [1815, 1912]})
        >>> ds = chatan.dataset({"name": person["name"], "born": person["born"]})
        >>> ds.generate(3).values.tolist()
        [['Ada', 1815], ['Alan', 1912], ['Ada', 1815]]
        """
        return TableRow(data, order, cycle)


sample = SampleNamespace()
