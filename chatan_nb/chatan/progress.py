"""The face of a run in a terminal: one line that moves while it goes on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import sys
from typing import TYPE_CHECKING, TextIO, TypeVar

from chatan.engine.run import Run

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

INTERVAL = 0.2
"""Seconds between two looks at the run."""


def wait(run: Run[T], stream: TextIO | None = None) -> T:
    """Wait for a run behind a progress bar and give its result.

    The bar goes to ``stream`` (the standard error) where that is a terminal. Ctrl-C cancels
    the run; what is finished is kept.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        return run.result()
    from tqdm import tqdm

    with tqdm(total=run.progress.rows, unit="row", file=stream, dynamic_ncols=True) as bar:
        try:
            while not run.done():
                _show(bar, run)
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    run.result(INTERVAL)
        except KeyboardInterrupt:
            run.cancel()
            raise
        finally:
            _show(bar, run)
    return run.result()


def _show(bar: tqdm[None], run: Run[T]) -> None:
    progress = run.progress
    bar.n = progress.rows_done
    parts = [f"{progress.calls:,} calls", f"{progress.in_flight} in flight"]
    failed = sum(states.get("failed", 0) for states in progress.cells.values())
    if failed:
        parts.append(f"{failed:,} failed")
    if progress.retries:
        parts.append(f"{progress.retries:,} retried")
    bar.set_postfix_str(", ".join(parts), refresh=False)
    bar.refresh()
