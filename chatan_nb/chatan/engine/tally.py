"""What runs have sent and used so far, by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from chatan.providers.base import Completion, ProviderError, Usage


@dataclass(slots=True)
class ColumnTally:
    """The calls of one prompt column: how many were sent, failed (by kind), and their tokens."""

    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    errors: Counter[str] = field(default_factory=Counter)
    cut_off: int = 0
    replaced: int = 0
    seconds: float = 0.0

    def add(self, other: ColumnTally) -> None:
        self.calls += other.calls
        self.usage.add(other.usage)
        self.errors.update(other.errors)
        self.cut_off += other.cut_off
        self.replaced += other.replaced
        self.seconds += other.seconds


class Tally(dict[str, ColumnTally]):
    """Column names to what their calls came to."""

    def count(
        self, column: str, completion: Completion | None, error: ProviderError | None
    ) -> None:
        """A call came back, with an answer or without."""
        tally = self.get(column)
        if tally is None:
            tally = self[column] = ColumnTally()
        tally.calls += 1
        if error is not None:
            tally.errors[error.kind] += 1
            if error.usage is not None:
                tally.usage.add(error.usage)
        if completion is not None:
            tally.usage.add(completion.usage)
            tally.seconds += completion.latency
            tally.cut_off += completion.finish_reason == "length"
            tally.replaced += completion.replaced


@dataclass(slots=True)
class UsageReport:
    """The calls and tokens of a dataset's runs: in all, and by prompt column."""

    total: ColumnTally = field(default_factory=ColumnTally)
    columns: dict[str, ColumnTally] = field(default_factory=dict)

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> UsageReport:
        """The sum of the tallies of several runs."""
        report = cls()
        for tally in tallies:
            for name, column in tally.items():
                report.total.add(column)
                report.columns.setdefault(name, ColumnTally()).add(column)
        return report

    @property
    def calls(self) -> int:
        """Calls sent, retries included."""
        return self.total.calls

    @property
    def input_tokens(self) -> int:
        return self.total.usage.input_tokens

    @property
    def output_tokens(self) -> int:
        return self.total.usage.output_tokens

    def __str__(self) -> str:
        lines = [f"{'column':<20} {'calls':>9} {'tokens in':>12} {'tokens out':>12}"]
        for name, column in [*self.columns.items(), ("all", self.total)]:
            used = column.usage
            lines.append(
                f"{name:<20} {column.calls:>9,} {used.input_tokens:>12,} {used.output_tokens:>12,}"
            )
        if self.total.cut_off:
            lines.append(f"{self.total.cut_off:,} answers were cut off by max_tokens")
        if self.total.replaced:
            lines.append(f"{self.total.replaced:,} answers held half characters, now U+FFFD")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)
