from __future__ import annotations

import datetime as dt
import itertools
import json
import pickle
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from chatan.schema.rows import Rows, Stream
from chatan.schema.samplers import SampleFunction, is_frozen_distribution, sample

GOLDEN = Path(__file__).parents[1] / "golden" / "samplers.json"
DAY, NOON = dt.datetime(2024, 5, 6), dt.datetime(2024, 5, 6, 12)
BERLIN = ZoneInfo("Europe/Berlin")
TABLE = {"name": [f"n{number}" for number in range(700)], "half": [i / 2 for i in range(700)]}
STREAM = Stream(seed=7, dataset="people", column="value")
PARENTS = ("a", "b", "c", None)

SAMPLERS: dict[str, Callable[[], SampleFunction]] = {
    "choice": lambda: sample.choice(["x", "y", None, "z"]),
    "choice_structs": lambda: sample.choice([{"a": 1}, {"a": 2, "b": [1.5]}]),
    "weighted": lambda: sample.weighted({1: 1, 2.5: 0, 3: 5}),
    "uuid": sample.uuid,
    "datetime": lambda: sample.datetime("2024-01-01", "2024-12-31"),
    "datetime_zone": lambda: sample.datetime(
        dt.datetime(2024, 3, 1, tzinfo=BERLIN), dt.datetime(2024, 4, 1, tzinfo=BERLIN), unit="hour"
    ),
    "datetime_text": lambda: sample.datetime("2024-01-01", "2024-12-31", "%d.%m.%Y, %H:%M"),
    "datetime_words": lambda: sample.datetime("2024-01-01", "2024-12-31", "%A %d %B"),
    "range_whole": lambda: sample.range(-5, 5),
    "range_wide": lambda: sample.range(-(2**63), 2**63 - 2),
    "range_steps": lambda: sample.range(0, 1, step=0.1),
    "range_real": lambda: sample.range(0.0, 9.0),
    "uniform": lambda: sample.uniform(-1, 1),
    "normal": lambda: sample.normal(10, 2),
    "poisson": lambda: sample.poisson(3.5),
    "bernoulli": lambda: sample.bernoulli(0.3),
    "distribution": lambda: sample.distribution(scipy.stats.gamma(2)),
    "distribution_discrete": lambda: sample.distribution(scipy.stats.binom(9, 0.5)),
    "function": lambda: sample.function(lambda rng, size: rng.gamma(2, size=size)),
    "from_random": lambda: sample.from_dataset(TABLE, "name"),
    "from_shuffle": lambda: sample.from_dataset(TABLE, "half", order="shuffle"),
    "from_sequence": lambda: sample.from_dataset(TABLE, "name", "sequential", cycle=True),
    "from_apart": lambda: sample.from_ds(TABLE, "name", aligned=False),
    "row": lambda: sample.row(TABLE, order="shuffle")["name"],
    "by": lambda: sample.by(
        "parent",
        {
            "a": [1, 2],
            "b": {3: 1, 4.5: 2},
            "c": sample.by("other", {1: sample.normal(), 2: sample.poisson(4)}, default=0),
            None: None,
        },
    ),
    "by_rows": lambda: sample.by(
        "parent",
        {
            "a": sample.uuid(),
            "b": sample.from_dataset(TABLE, "name", order="shuffle"),
            "c": sample.function(lambda rng, size: [f"{number:.9}" for number in rng.random(size)]),
        },
        default=sample.from_dataset(TABLE, "name"),
    ),
}
BY_POSITION = {"function", "from_shuffle", "from_sequence", "row", "by_rows"}
EVERY = pytest.mark.parametrize("name", SAMPLERS)


def drawn(sampler: SampleFunction, rows: Rows, stream: Stream = STREAM) -> pa.Array:
    assert sampler.faults() == []
    numbers = np.arange(rows.start, rows.stop) if rows.identities is None else rows.identities
    inputs = {
        "parent": pa.array([PARENTS[number % 4] for number in numbers.tolist()], pa.string()),
        "other": pa.array([number % 3 for number in numbers.tolist()], pa.int64()),
    }
    values = sampler.draw(rows, stream, {need: inputs[need] for need in sampler.needs})
    assert isinstance(values, pa.Array)
    values.validate(full=True)
    assert len(values) == len(rows)
    return values


def sample_of(sampler: SampleFunction, count: int = 20_000) -> list[Any]:
    return drawn(sampler, Rows(0, count)).to_pylist()


@EVERY
@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 2**40), cuts=st.lists(st.integers(0, 2500), max_size=6))
def test_rows_stay_what_they_are_however_cut(name: str, start: int, cuts: list[int]) -> None:
    whole = drawn(SAMPLERS[name](), Rows(start, start + 2500))
    cutter = SAMPLERS[name]()
    edges = sorted({0, 2500, *cuts})
    # from the last to the first, so that nothing can lean on what came before
    for first, stop in reversed(list(itertools.pairwise(edges))):
        part = drawn(cutter, Rows(start + first, start + stop))
        assert part.equals(whole.slice(first, stop - first))


@EVERY
def test_one_row_at_a_time_and_many_threads_give_the_same(name: str) -> None:
    sampler = SAMPLERS[name]()
    whole = drawn(SAMPLERS[name](), Rows(0, 1100))
    with ThreadPoolExecutor(4) as pool:
        rows = [Rows(number, number + 1) for number in range(950, 1100)]
        parts = list(pool.map(lambda row: drawn(sampler, row), rows))
    assert pa.concat_arrays(parts).equals(whole.slice(950))


@EVERY
def test_a_part_is_picked_as_it_would_be_drawn(name: str) -> None:
    sampler, rows = SAMPLERS[name](), Rows(3000, 3400)
    inputs = {
        "parent": pa.array(["a", "b", "c", None] * 100),
        "other": pa.array([0, 1, 2, 2] * 100),
    }
    whole = sampler.draw(rows, STREAM, inputs)
    for chosen in (np.arange(0, 400, 3), np.array([399]), np.arange(400), np.array([], np.int64)):
        part = sampler.pick(rows, chosen, STREAM, inputs)
        assert part.equals(whole.take(pa.array(chosen)))


@EVERY
def test_identities_stand_for_row_numbers(name: str) -> None:
    sampler = SAMPLERS[name]()
    identities = np.array([5, 2**64 - 1, 0, 70_000, 6], np.uint64)
    values = drawn(sampler, Rows(10, 15, identities))
    turned = drawn(sampler, Rows(10, 15, identities[::-1].copy()))
    moved = drawn(sampler, Rows(90, 95, identities))
    if name in BY_POSITION - {"function"}:
        return
    assert turned.to_pylist() == values.to_pylist()[::-1]
    assert moved.equals(values)
    if name != "function":
        numbers = np.arange(40, 60, dtype=np.uint64)
        assert drawn(sampler, Rows(0, 20, numbers)).equals(drawn(sampler, Rows(40, 60)))


@pytest.mark.parametrize("name", ["from_shuffle", "from_sequence", "row"])
def test_orders_go_by_position_whatever_the_identities(name: str) -> None:
    identities = np.full(50, 3, np.uint64)
    sampler = SAMPLERS[name]()
    assert drawn(sampler, Rows(20, 70, identities)).equals(drawn(sampler, Rows(20, 70)))


@EVERY
def test_the_type_is_known_before_the_first_row(name: str) -> None:
    sampler = SAMPLERS[name]()
    kinds = {drawn(sampler, Rows(first, first + 3)).type for first in (0, 1, 2, 50, 999)}
    expected = pa.float64() if name == "function" else sampler.arrow_type()
    assert kinds == {expected}
    assert drawn(sampler, Rows(0, 0)).type == expected


@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"function", "by_rows"}))
def test_a_sampler_sent_elsewhere_draws_the_same(name: str) -> None:
    sampler = SAMPLERS[name]()
    here = drawn(sampler, Rows(5, 50))
    assert drawn(pickle.loads(pickle.dumps(sampler)), Rows(5, 50)).equals(here)


@EVERY
def test_seed_and_column_make_the_draw_and_the_dataset_only_that_of_uuids(name: str) -> None:
    def of(stream: Stream) -> list[Any]:
        return drawn(SAMPLERS[name](), Rows(0, 64), stream).to_pylist()

    values = of(STREAM)
    if name != "from_sequence":
        assert of(Stream(8, "people", "value")) != values
    if not name.startswith(("from_random", "from_shuffle", "from_sequence", "row")):
        assert of(Stream(7, "people", "other")) != values
    assert (of(Stream(7, "others", "value")) == values) == (name not in {"uuid", "by_rows"})


@EVERY
def test_values_are_pinned(name: str) -> None:
    """What a version of the library has drawn for someone, the next must draw too."""
    sampler = SAMPLERS[name]()
    rows = [drawn(sampler, Rows(start, start + 4)).to_pylist() for start in (0, 1_000_000)]
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert json.loads(json.dumps(rows, default=str)) == golden[name]


def test_choice_keeps_what_it_is_given() -> None:
    assert sample.choice([1, 2]).arrow_type() == pa.int64()
    assert sample.choice([1, 2.5]).arrow_type() == pa.float64()
    assert sample.choice(np.array([1, 2], np.int8)).arrow_type() == pa.int64()
    assert sample.choice([True, None]).arrow_type() == pa.bool_()
    assert sample.choice((dt.date(2024, 1, 1), None)).arrow_type() == pa.date32()
    assert sample.choice(range(3)).arrow_type() == pa.int64()
    assert sample.choice(["a", "a", "b"]).values() == ["a", "a", "b"]
    assert sample.weighted({"a": 1, "b": 0}).values() == ["a"]
    assert sample.choice({"a": 1, "b": 0}).values() == ["a"]
    assert sample.bernoulli(1).values() == [True]
    assert sample.range(1, 3).values() == [1, 2, 3]
    assert sample.by("x", {1: ["a", "b"], 2: "b"}).values() == ["a", "b", "b"]
    assert sample.by("x", {1: sample.normal()}).values() is None


def test_all_choices_are_equally_likely() -> None:
    counts = np.unique(sample_of(sample.choice(list(range(7)))), return_counts=True)[1]
    assert scipy.stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    "sampler",
    [
        sample.weighted({"a": 1, "b": 0, "c": 3, "d": 2, "e": 0}),
        sample.weighted((["a", "b", "c", "d", "e"], [1, 0, 3, 2, 0])),
        sample.weighted(["a", "b", "c", "d", "e"], np.array([0.1, 0, 0.3, 0.2, 0])),
        sample.choice({"a": 5e307, "b": 0, "c": 15e307, "d": 1e308, "e": 0}),
    ],
)
def test_weights_hold_and_need_no_sum(sampler: SampleFunction) -> None:
    values, counts = np.unique(sample_of(sampler), return_counts=True)
    assert values.tolist() == ["a", "c", "d"]
    assert scipy.stats.chisquare(counts, np.array([1, 3, 2]) / 6 * 20_000).pvalue > 0.001


def test_uuids_are_valid_and_differ() -> None:
    texts = sample_of(sample.uuid(), 100_000)
    texts += drawn(sample.uuid(), Rows(0, 50_000), Stream(7, "others", "value")).to_pylist()
    texts += drawn(sample.uuid(), Rows(0, 50_000), Stream(7, "people", "id")).to_pylist()
    assert len(set(texts)) == len(texts)
    for text in texts[::97]:
        read = uuid.UUID(text)
        assert str(read) == text
        assert (read.version, read.variant) == (4, uuid.RFC_4122)


@pytest.mark.parametrize(
    ("sampler", "distribution"),
    [
        (sample.uniform(-3, 5), scipy.stats.uniform(-3, 8)),
        (sample.range(2.0, 4.0), scipy.stats.uniform(2, 2)),
        (sample.normal(100, 15), scipy.stats.norm(100, 15)),
        (sample.distribution(scipy.stats.beta(2, 3)), scipy.stats.beta(2, 3)),
        (sample.function(lambda rng, size: rng.exponential(2, size)), scipy.stats.expon(scale=2)),
    ],
)
def test_numbers_follow_their_distribution(sampler: SampleFunction, distribution: Any) -> None:
    assert scipy.stats.kstest(sample_of(sampler), distribution.cdf).pvalue > 0.001


@pytest.mark.parametrize("rate", [0, 0.01, 0.5, 1, 7.3, 250, 123_456.7, 1e9])
def test_counts_follow_the_poisson_distribution(rate: float) -> None:
    values = np.array(sample_of(sample.poisson(rate)))
    ours, law = sample.poisson(rate), scipy.stats.poisson(rate)
    if rate < 1000:
        law_counts = drawn(sample.distribution(law), Rows(0, 20_000)).to_pylist() if rate else 0
        # both are inverses at nearly the same share, so that hardly a value differs
        assert np.mean(values != np.array(law_counts)) < 0.001
    assert abs(values.mean() - rate) <= 4 * (rate / 20_000) ** 0.5
    assert ours.arrow_type() == pa.int64()


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**40), st.integers(1, 2**20))
def test_whole_ranges_keep_to_their_steps(start: int, span: int, step: int) -> None:
    end = min(start + span, 2**63 - 1)
    values = sample_of(sample.range(start, end, step), 50)
    assert all(start <= value <= end and (value - start) % step == 0 for value in values)


def test_both_ends_of_a_whole_range_are_drawn() -> None:
    assert set(sample_of(sample.range(-1, 2), 500)) == {-1, 0, 1, 2}
    assert set(sample_of(sample.range(0, 10, step=5), 500)) == {0, 5, 10}
    assert set(sample_of(sample.range(0, 9, step=5), 500)) == {0, 5}
    assert set(sample_of(sample.range(4, 4), 10)) == {4}
    wide = np.array(sample_of(sample.range(-(2**63), 2**63 - 2), 5000)) / 2**63
    assert scipy.stats.kstest(wide, scipy.stats.uniform(-1, 2).cdf).pvalue > 0.001


DECIMALS = st.decimals(-1000, 1000, places=3)


@given(DECIMALS, st.decimals("0.001", 3, places=3), st.integers(0, 40), DECIMALS)
def test_steps_do_not_drift(start: Decimal, step: Decimal, count: int, more: Decimal) -> None:
    end = start + count * step
    allowed = {float(start + number * step) for number in range(count + 1)}
    values = sample_of(sample.range(float(start), float(end), float(step)), 600)
    assert set(values) <= allowed
    if count < 5:
        assert set(values) == allowed


@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308))
def test_a_uniform_number_is_never_the_end(one: float, other: float) -> None:
    low, high = sorted((one, other))
    values = sample_of(sample.uniform(low, high), 20)
    assert all(low <= value < high or low == high == value for value in values)
    close = np.nextafter(low, np.inf)
    assert set(sample_of(sample.uniform(low, close), 20)) == {low}


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (
            sample.datetime("2024-02-28", "2024-03-01", "%Y-%m-%d"),
            ["2024-02-28", "2024-02-29", "2024-03-01"],
        ),
        (sample.datetime("31/12/99", "01/01/00", "%d/%m/%y"), ["31/12/99", "01/01/00"]),
        (sample.datetime("2024-05-06", "2024-05-06", step=12, unit="hours"), [DAY, NOON]),
        (
            sample.datetime(DAY.date(), dt.date(2024, 5, 19), step=dt.timedelta(weeks=1)),
            [DAY, dt.datetime(2024, 5, 13)],
        ),
        (
            sample.datetime("2024-05-06T00:00", "2024-05-06 00:00:01"),
            [DAY, dt.datetime(2024, 5, 6, 0, 0, 1)],
        ),
        (sample.datetime(DAY, NOON, unit="Day"), [DAY]),
        (
            sample.datetime(pd.Timestamp(DAY), np.datetime64(NOON), step=0.5, unit="day"),
            [DAY, NOON],
        ),
        (
            sample.datetime("2024-05-06T00:00:00.000007", "2024-05-06T00:00:00.000008", "%f%%é"),
            ["000007%é", "000008%é"],
        ),
        (
            sample.datetime("1960-12-31T23:59:59", "1961-01-01T00:00:00"),
            [dt.datetime(1960, 12, 31, 23, 59, 59), dt.datetime(1961, 1, 1)],
        ),
    ],
)
def test_moments_run_from_start_to_end(sampler: SampleFunction, expected: list[Any]) -> None:
    assert set(sample_of(sampler, 400)) == set(expected)


def test_time_zones_are_kept() -> None:
    start, end = "2024-03-31T00:30+01:00", "2024-03-31T04:30+02:00"
    sampler = sample.datetime(start, end, unit="hours")
    assert sampler.arrow_type() == pa.timestamp("us", "+01:00")
    assert len(set(sample_of(sampler, 200))) == 4
    # the night in which the clock in Berlin has no hour from two to three
    night = [dt.datetime(2024, 3, 31, hour, 30, tzinfo=BERLIN) for hour in (0, 4)]
    assert sample.datetime(*night, unit="hours").arrow_type() == pa.timestamp("us", "Europe/Berlin")
    texts = set(sample_of(sample.datetime(*night, "%H:%M %z", unit="hours"), 200))
    assert texts == {"00:30 +0100", "01:30 +0100", "03:30 +0200", "04:30 +0200"}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from(["%Y", "%y", "%m", "%d", "%H", "%M", "%S", "%f", "%%", "-", "é\n", "T"])
    ),
    st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(9998, 1, 1)),
)
def test_formats_of_digits_are_written_as_strftime_does(
    parts: list[str], start: dt.datetime
) -> None:
    format = "%Y" + "".join(parts)
    end, unit = start + dt.timedelta(days=200), "microseconds"
    moments = sample_of(sample.datetime(start, end, unit=unit), 30)
    texts = sample_of(sample.datetime(start, end, format, unit=unit), 30)
    assert texts == [moment.strftime(format) for moment in moments]


def test_by_draws_each_row_from_the_sampler_of_its_value() -> None:
    sampler = sample.by("parent", {"a": ["x", "y"], "b": sample.uuid(), "c": "z"}, default=None)
    for number, value in enumerate(sample_of(sampler, 400)):
        parent = PARENTS[number % 4]
        assert {"a": value in ("x", "y"), "b": value and len(value) == 36, "c": value == "z"}.get(
            parent, value is None
        )
    assert sampler.needs == ("parent",)
    assert SAMPLERS["by"]().needs == ("parent", "other")


def test_by_draws_as_its_samplers_would_alone() -> None:
    alone = sample_of(sample.normal(), 400)
    for number, value in enumerate(
        sample_of(sample.by("other", {0: sample.normal()}, default=0), 400)
    ):
        assert value == (alone[number] if number % 3 == 0 else 0)


def test_by_has_every_kind_of_key() -> None:
    moment, day = dt.datetime(2024, 1, 1), dt.date(2024, 1, 1)
    for keys in (
        ["a", None],
        [1, 2],
        [True, False],
        [1.5, None],
        [moment],
        [day],
        [Decimal("1.5")],
    ):
        sampler = sample.by("parent", {key: str(key) for key in keys})
        values = sampler.draw(Rows(0, len(keys)), STREAM, {"parent": pa.array(keys)})
        assert values.to_pylist() == [str(key) for key in keys]
    coded = pa.array(["b", "b"]).dictionary_encode()
    assert sample.by("p", {"b": 1}).draw(Rows(0, 2), STREAM, {"p": coded}).to_pylist() == [1, 1]
    sliced = pa.DictionaryArray.from_arrays([1, 0, 1], ["never", "b"]).slice(0, 1)
    assert sample.by("p", {"b": 1}).draw(Rows(0, 1), STREAM, {"p": sliced}).to_pylist() == [1]


def test_by_names_the_value_that_it_does_not_know() -> None:
    sampler = sample.by("country", {"FR": 1, "DE": 2})
    with pytest.raises(ValueError, match=r"sample\.by\('country', \.\.\.\) has no entry for 'ES'"):
        sampler.draw(Rows(0, 2), STREAM, {"country": pa.array(["FR", "ES"])})
    with pytest.raises(ValueError, match="single values"):
        sampler.draw(Rows(0, 1), STREAM, {"country": pa.array([{"a": 1}])})
    assert isinstance(sampler, SampleFunction)
    assert sampler.missing(["FR", "ES", None, "ES", ["x"]]) == ["ES", None, ["x"]]
    assert sample.by("country", {"FR": 1}, default=2).missing(["FR", "ES"]) == []
    inner = sample.by("city", {"Rome": 1})
    nested = sample.by("country", {"IT": inner}, default=0)
    # a city that no entry names is no fault in a row that does not look at it
    inputs = {"country": pa.array(["IT", "FR"]), "city": pa.array(["Rome", "Lyon"])}
    assert nested.draw(Rows(0, 2), STREAM, inputs).to_pylist() == [1, 0]


def test_by_makes_one_column_of_whole_and_other_numbers() -> None:
    sampler = sample.by(
        "p", {"a": 1, "b": sample.uniform(), "c": sample.function(lambda r, n: [2] * n)}
    )
    assert sampler.arrow_type() == pa.float64()
    for parent in ("a", "b", "c"):
        values = sampler.draw(Rows(0, 1), STREAM, {"p": pa.array([parent])})
        assert values.type == pa.float64()


def test_a_function_is_asked_for_whole_blocks_and_few_times() -> None:
    sizes: list[int] = []

    def draw(rng: np.random.Generator, size: int) -> Any:
        sizes.append(size)
        return rng.random(size)

    sampler = sample.function(draw)
    for number in range(2048):
        drawn(sampler, Rows(number, number + 1))
    drawn(sampler, Rows(0, 2048))
    assert sizes == [1024, 1024]
    drawn(sampler, Rows(0, 3, np.array([5, 6, 5], np.uint64)))
    assert sizes[2:] == [1, 1, 1]


@pytest.mark.parametrize("given", [0.5, None, "abc", [1, 2], np.zeros((2, 1024)), {1: 2}])
def test_a_function_that_gives_the_wrong_number_says_so(given: Any) -> None:
    with pytest.raises(ValueError, match=r"where 1024 were asked for; draw with its size"):
        sample.function(lambda rng, size: given).draw(Rows(0, 3), STREAM, {})


def test_frozen_distributions_are_recognised() -> None:
    assert is_frozen_distribution(scipy.stats.norm(0, 1))
    assert is_frozen_distribution(scipy.stats.poisson(3))
    for other in (
        scipy.stats.norm,
        scipy.stats.multivariate_normal([0, 0]),
        len,
        "x",
        None,
        3,
        object,
    ):
        assert not is_frozen_distribution(other)
    assert sample.by("x", {1: scipy.stats.norm(0, 1)}).arrow_type() == pa.float64()
    assert sample.distribution(scipy.stats.geom(0.5)).arrow_type() == pa.int64()
