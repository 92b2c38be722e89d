from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatan
from chatan import SchemaError, sample
from chatan.schema.graph import Schema

gen = chatan.generator("openai", "sk-test-key-123")


def faults(columns: dict) -> tuple[str, ...]:
    with pytest.raises(SchemaError) as caught:
        Schema(columns)
    return caught.value.faults


def only(columns: dict) -> str:
    (fault,) = faults(columns)
    return fault


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        {
            "topic": sample.choice([]),
            "weight": sample.weighted({"a": -1}),
            "when": sample.datetime("2024-13-01", "2024-12-31"),
            "step": sample.range(0, 10, step=0),
            "question": gen("Ask about {topik}"),
            "length": lambda anwser: len(anwser),
            "": "nameless",
            "x": lambda y: y,
            "y": lambda x: x,
        }
    )
    told = "\n".join(found)
    for mention in (
        "column 'topic'", "column 'weight'", "column 'when'", "2024-13-01", "column 'step'",
        "{topik} names no column; did you mean {topic}?", "it needs 'anwser'",
        "a column needs a name", "in a circle",
    ):  # fmt: skip
        assert mention in told, told
    assert len(found) == 8


def test_an_empty_schema_is_refused() -> None:
    assert "no columns" in only({})


def test_circles_are_printed() -> None:
    fault = only({"a": gen("{b}"), "b": gen("{c}"), "c": gen("{a}")})
    assert "a -> b -> c -> a" in fault or "b -> c -> a -> b" in fault or "c -> a -> b -> c" in fault
    assert "a -> a" in only({"a": gen("{a}")})


@pytest.mark.parametrize(
    ("name", "mention"),
    [
        (3, "write '3'"),
        ("  ", "needs a name"),
        (" a", "write 'a'"),
        ("a{b", "braces"),
        ("a\nb", "line breaks"),
    ],
)
def test_names_that_could_not_be_referred_to(name: object, mention: str) -> None:
    assert mention in only({name: "x"})


def test_names_of_every_other_kind_are_fine() -> None:
    names = ["class", "for", "full name", "ä", "a.b", "1st", "row", "ctx", "None"]
    schema = Schema(
        {**dict.fromkeys(names, "x"), "all": gen(" ".join(f"{{{name}}}" for name in names))}
    )
    assert schema["all"].needs == tuple(names)


def test_functions_say_what_they_need() -> None:
    schema = Schema(
        {
            "a": "x",
            "b": "y",
            "two": lambda b, a: a + b,
            "whole": lambda row: row["a"],
            "ctx": lambda ctx: ctx["a"],
            "bound": lambda a, extra=3: a * extra,
            "part": chatan.function(functools.partial(lambda n, a: a * n, 2), needs=["a"]),
            "builtin": chatan.function(len, needs=["a"]),
            "late": lambda: 1,
        }
    )
    assert schema["two"].needs == ("b", "a")
    assert schema["whole"].needs == ("a", "b", "two")
    assert schema["bound"].needs == ("a",)
    assert schema["late"].needs == ()


@pytest.mark.parametrize("function", [print, max, lambda *args: 1, lambda **names: 1])
def test_callables_that_do_not_say_are_refused_with_the_way_out(function: object) -> None:
    assert "chatan.function(fn, needs=[...])" in only({"a": "x", "f": function})


def test_an_evaluation_order_is_given_whatever_the_order_of_declaration() -> None:
    schema = Schema({"c": gen("{b}"), "b": gen("{a}"), "a": "x"})
    assert schema.order == ("a", "b", "c")
    assert [schema[name].depth for name in "abc"] == [0, 1, 2]
    assert schema.dependents({"b"}) == {"b", "c"}
    assert schema.graph.edges == (("b", "c"), ("a", "b"))
    assert list(schema) == ["c", "b", "a"]


def test_fields_of_structured_columns_are_checked_where_they_are_known() -> None:
    person = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    Schema({"person": gen("A person", schema=person), "greeting": gen("Greet {person.name}")})
    fault = only({"person": gen("A person", schema=person), "it": gen("Greet {person.nmae}")})
    assert "{person.nmae}" in fault
    assert "name" in fault.replace("nmae", "")
    fault = only({"person": gen("A person"), "it": gen("Greet {person.name}")})
    assert "schema=" in fault


def test_a_conditional_sampler_covers_what_its_column_can_be() -> None:
    country = sample.choice(["FR", "DE"])
    Schema({"country": country, "city": sample.by("country", {"FR": ["Paris"], "DE": ["Bonn"]})})
    assert "'DE'" in only({"country": country, "city": sample.by("country", {"FR": ["Paris"]})})
    assert "no column" in only({"city": sample.by("country", {"FR": ["Paris"]})})


def test_static_values_must_fit_a_table() -> None:
    Schema({"a": "x", "b": 1, "c": None, "d": [1, 2], "e": {"k": "v"}, "f": 2.5, "g": b"raw"})
    assert "cannot stand in a column" in only({"a": object()})


@given(st.data())
def test_any_acyclic_schema_has_an_order_and_any_added_circle_is_found(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 8))
    names = [f"c{at}" for at in range(size)]
    needs = {
        name: data.draw(st.sets(st.sampled_from(names[:at]))) if at else set()
        for at, name in enumerate(names)
    }

    def columns() -> dict:
        return {
            name: gen("x " + " ".join(f"{{{need}}}" for need in sorted(needs[name])))
            for name in data.draw(st.permutations(names))
        }

    order = Schema(columns()).order
    for name in names:
        assert all(order.index(need) < order.index(name) for need in needs[name])
    last, first = names[-1], names[0]
    needs[first].add(last)
    needs[last].add(first)
    assert "circle" in only(columns())


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (sample.uuid, "sample.uuid(...)"),
        (gen, 'gen("Ask about {topic}")'),
        (len, "chatan.function(fn, needs=[...])"),
    ],
)
def test_what_was_nearly_a_column_is_told_how_to_become_one(value: object, told: str) -> None:
    assert told in only({"a": "x", "b": value})
