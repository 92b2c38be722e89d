"""``Dataset``, ``dataset()`` and ``augment()``: the public verbs, each handed down to its room."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatan import export, progress
from chatan.arguments import checked_seed, limits_of, row_count
from chatan.engine.run import Run
from chatan.engine.scheduler import Limits
from chatan.engine.table import State
from chatan.engine.tally import UsageReport
from chatan.schema.graph import Graph, Schema
from chatan.sheet import ColumnHandle, Sheet
from chatan.source import SourceRows, take_in

if TYPE_CHECKING:
    from collections.abc import Generator

    import datasets
    import pandas as pd
    import pyarrow as pa

    class Generated(pd.DataFrame):
        """What ``generate`` gives: the DataFrame, or in async code what gives it when awaited."""

        def __await__(self) -> Generator[Any, None, pd.DataFrame]: ...


class Dataset:
    """A schema of columns, and the table that it fills.

    Made by ``chatan.dataset`` or ``chatan.augment``. ``ds["column"]`` is a column's handle.
    """

    def __init__(self, sheet: Sheet, n: int | None, source: SourceRows | None = None) -> None:
        self._sheet = sheet
        self._n = n
        self._source = source

    # -- making rows

    if TYPE_CHECKING:

        def generate(
            self,
            n: int | None = None,
            *,
            concurrency: int | None = None,
            max_concurrent_rows: int | None = None,
            max_concurrent_columns: int | None = None,
        ) -> Generated: ...

        def preview(self, n: int = 5) -> Generated: ...

        def regenerate(self, row: int, column: str) -> Generated: ...

    else:

        def generate(
            self,
            n=None,
            *,
            concurrency=None,
            max_concurrent_rows=None,
            max_concurrent_columns=None,
        ):
            """Make the rows up to ``n`` in all and give the table.

            In a script it waits, with a progress bar on a terminal, and gives the DataFrame; in
            async code and notebooks write ``df = await ds.generate(n)``. Cells that are done
            stay: more rows extend the table, and after an interruption the same call goes on.

            Parameters
            ----------
            n
                Rows in all (default: what the dataset was made with). 0 gives an empty frame
                with the right columns.
            concurrency
                Requests in flight, at most (default: what the generators say).
            max_concurrent_rows, max_concurrent_columns
                Unfinished rows, and columns being asked, at the same time (default: unlimited).

            Raises
            ------
            ProviderError
                If no call could succeed: a wrong key, an unknown model, no such server.
            ValueError
                If ``n`` is negative or missing.

            >>> import chatan
            >>> chatan.dataset({"a": "x", "b": lambda a: a * 2}).generate(2)["b"].tolist()
            ['xx', 'xx']
            """
            make = self.start if _in_event_loop() else self.run
            return make(
                n,
                concurrency=concurrency,
                max_concurrent_rows=max_concurrent_rows,
                max_concurrent_columns=max_concurrent_columns,
            )

        def preview(self, n=5):
            """Make the first ``n`` rows; they stay, and are not made again."""
            return self.generate(n if self._source is None else min(n, self._source.rows))

        def regenerate(self, row, column):
            """Draw one cell anew, and make what depends on it again; gives the table's rows.

            Raises
            ------
            KeyError, IndexError, ValueError
                If there is no such column or row, or a sampler draws it.
            """
            self._sheet.regenerate(row, column)
            rows = range(row, row + 1)
            if _in_event_loop():
                return self._start(rows, Limits(), shown=len(self))
            return progress.wait(self._start(rows, Limits(), shown=len(self), blocking=True))

    def start(
        self,
        n: int | None = None,
        *,
        concurrency: int | None = None,
        max_concurrent_rows: int | None = None,
        max_concurrent_columns: int | None = None,
    ) -> Run[pd.DataFrame]:
        """Start making the rows up to ``n`` in the background; returns at once.

        Parameters and faults are those of ``generate``.
        """
        limits = limits_of(concurrency, max_concurrent_rows, max_concurrent_columns)
        return self._start(range(self._rows(n)), limits)

    def run(
        self,
        n: int | None = None,
        *,
        concurrency: int | None = None,
        max_concurrent_rows: int | None = None,
        max_concurrent_columns: int | None = None,
    ) -> pd.DataFrame:
        """Make the rows up to ``n`` and give the table; waits, wherever it is called.

        Parameters and faults are those of ``generate``.
        """
        limits = limits_of(concurrency, max_concurrent_rows, max_concurrent_columns)
        return progress.wait(self._start(range(self._rows(n)), limits, blocking=True))

    def _start(
        self, rows: range, limits: Limits, *, shown: int | None = None, blocking: bool = False
    ) -> Run[pd.DataFrame]:
        shown = rows.stop if shown is None else shown
        return self._sheet.start(
            rows,
            lambda: self.to_pandas(shown),
            limits=limits,
            advice=f"ds.generate({shown}) goes on from there",
            blocking=blocking,
            warm="pandas",
        )

    def _rows(self, n: int | None) -> int:
        if n is None:
            if self._n is None:
                raise ValueError("how many rows? write ds.generate(100), or dataset({...}, n=100)")
            return self._n
        return row_count(n, self._source)

    # -- what it is and what it holds

    def __getitem__(self, name: str) -> ColumnHandle:
        return ColumnHandle(self._sheet, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sheet.schema)

    def __contains__(self, name: object) -> bool:
        return name in self._sheet.schema

    def __len__(self) -> int:
        return self._sheet.table.rows

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._sheet.schema)

    @property
    def n(self) -> int | None:
        """How many rows ``generate()`` makes where it is not told."""
        return self._n

    @property
    def graph(self) -> Graph:
        """The columns and the edges along which data flows; ``print`` it for a picture."""
        return self._sheet.schema.graph

    @property
    def usage(self) -> UsageReport:
        """The calls and tokens of all runs of this dataset so far, by column."""
        return self._sheet.usage

    @property
    def errors(self) -> pd.DataFrame:
        """The failed cells, one a row: row, column, kind, message, attempts and last answer."""
        import pandas as pd

        records = [
            (row, column, failure.kind, failure.message, failure.attempts, failure.answer)
            for row, column, failure in sorted(
                self._sheet.failures(), key=lambda found: (found[0], self.columns.index(found[1]))
            )
        ]
        names = ["row", "column", "kind", "message", "attempts", "answer"]
        return pd.DataFrame.from_records(records, columns=names)

    # -- out of the table

    def to_arrow(self, n: int | None = None, *, finished: bool = False) -> pa.Table:
        """The first ``n`` rows (default: all) as a ``pyarrow.Table``; missing cells are null.

        With ``finished`` only those rows that need no more work.
        """
        rows = self._held(n)
        table = self._sheet.arrow(rows)
        return table.take(self._sheet.table.finished(rows)) if finished else table

    def to_pandas(self, n: int | None = None) -> pd.DataFrame:
        """The first ``n`` rows (default: all) as a DataFrame; missing cells are missing values.

        Integer and boolean columns with missing values keep their kind (``Int64``,
        ``boolean``). Rows that were brought keep their index and types.
        """
        rows = self._held(n)
        if self._source is None:
            return export.to_pandas(self._sheet.arrow(rows))
        return self._source.with_columns_pandas(rows, self._sheet.table)

    def to_hf(self, n: int | None = None) -> datasets.Dataset:
        """The first ``n`` rows (default: all) as a Hugging Face ``Dataset``."""
        rows = self._held(n)
        if self._source is None:
            return export.to_hf(self._sheet.arrow(rows))
        return self._source.with_columns_hf(rows, self._sheet.table)

    to_huggingface = to_hf

    def save(
        self, path: str | Path, format: str | None = None, *, escape_formulas: bool = False
    ) -> Path:
        """Write the table to a file, whole or not at all.

        Parameters
        ----------
        path
            Where to; the suffix says how: ``.parquet``, ``.csv``, ``.json`` (an array of
            records) or ``.jsonl``.
        format
            One of these four, where the suffix does not say it.
        escape_formulas
            For CSV that will be opened in a spreadsheet: text that would run there as a formula
            is written behind an apostrophe.

        Returns
        -------
        Path
            The file that was written.

        Raises
        ------
        ValueError
            If nothing was generated yet, or the format is none of the four.
        """
        if not self._sheet.has_run:
            raise ValueError("there are no rows to save yet: call ds.generate(n) first")
        states = self._sheet.states()
        if unmade := sum(states[state] for state in (State.PENDING, State.RUNNING, State.STALE)):
            warnings.warn(
                f"{unmade:,} cells are missing or stale in what is saved; ds.generate() makes them",
                stacklevel=2,
            )
        table = self._sheet.arrow(self._sheet.table.rows)
        return export.save(table, path, format, escape_formulas=escape_formulas)

    def _held(self, n: int | None) -> int:
        held = self._sheet.table.rows
        return held if n is None else min(row_count(n, None), held)

    def __repr__(self) -> str:
        columns = ", ".join(f"{name} ({kind})" for name, kind in self.graph.columns.items())
        states = {
            state.name.lower(): number
            for state, number in self._sheet.states().items()
            if number and state is not State.DONE
        }
        told = "".join(f", {number:,} cells {state}" for state, number in states.items())
        return f"<Dataset of {len(self):,} rows{told}: {columns}>"


def dataset(
    columns: Mapping[str, Any], n: int | None = None, *, seed: int = 0, name: str | None = None
) -> Dataset:
    """A dataset of the columns of a schema.

    Parameters
    ----------
    columns
        Names to columns: prompts (``gen("... {other} ...")``), samplers (``chatan.sample``),
        functions (their parameters are the columns they need), or plain values.
    n
        How many rows ``generate()`` makes where it is not told.
    seed
        Of all random draws: the same schema and seed give the same samples.
    name
        Of the dataset; uuids do not repeat across datasets of other names.

    Raises
    ------
    SchemaError
        With all that is wrong with the schema.

    >>> import chatan
    >>> ds = chatan.dataset({"n": chatan.sample.range(1, 6), "square": lambda n: n * n}, seed=7)
    >>> bool((ds.generate(3)["square"] == ds.to_pandas()["n"] ** 2).all())
    True
    """
    if not isinstance(columns, Mapping):
        raise TypeError(f"a schema is a dictionary of names to columns, not {columns!r}")
    rows = None if n is None else row_count(n, None)
    return Dataset(Sheet(Schema(columns), seed=checked_seed(seed), name=name or ""), rows)


def augment(
    data: Any,
    columns: Mapping[str, Any],
    *,
    key: str | None = None,
    when: Callable[..., Any] | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """A dataset that adds columns to rows that you have.

    All rows stay, in their order, with their columns as they are. Missing values are ``None`` to
    functions and empty text in prompts.

    Parameters
    ----------
    data
        A pandas DataFrame, Hugging Face dataset, ``pyarrow.Table``, dictionary of lists or list
        of dictionaries.
    columns
        The columns to add; they see those of ``data``.
    key
        A column of ``data`` that names its rows (default: the content of the whole row), so that
        rows put in between leave the draws of the others as they are.
    when
        A function of the row; cells of prompts and functions are skipped where it is false.
    seed, name
        As for ``dataset``.

    Raises
    ------
    SchemaError
        With all that is wrong with the new columns.

    >>> import chatan
    >>> data = {"text": ["good", "bad"]}
    >>> chatan.augment(data, {"length": lambda text: len(text)}).generate()["length"].tolist()
    [4, 3]
    """
    source = take_in(data, key)
    schema = source.schema_with(columns, when)
    sheet = Sheet(schema, seed=checked_seed(seed), name=name or "", identities=source.identities)
    return Dataset(sheet, source.rows, source)


def _in_event_loop() -> bool:
    return asyncio._get_running_loop() is not None
