from __future__ import annotations

import dataclasses
import enum
import json
import pickle
import socket
import subprocess
import sys
from typing import Any, Literal, TypedDict

import jsonschema_rs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatan.schema.shapes import fields_at, rooted_in_object
from chatan.schema.structured import Answer, AnswerFault, answer


class Address(pydantic.BaseModel):
    city: str
    street: str | None = None


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(alias="firstName")
    age: int
    address: Address | None = None
    scores: dict[str, float] = {}
    friends: list[Person] = []

    @pydantic.field_validator("age")
    @classmethod
    def not_negative(cls, age: int) -> int:
        if age < 0:
            raise ValueError("nobody is so young")
        return {7: 8}[age] if age in (7, 99) else age

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def greeting(self) -> str:
        return f"Hello {self.name}"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


PERSON = {
    "title": "A person, of 2026!",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": "object"},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {
        "address": {"anyOf": [{"properties": {"city": {"type": "string"}}}, {"type": "null"}]}
    },
}

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(left: object, right: object) -> bool:
    """Equal, and of the same types: 1 is neither 1.0 nor True."""
    return repr(left) == repr(right)


# -- values that fit


@given(
    plain_values,
    st.booleans(),
    st.sampled_from(["{}", " \n{}\t", "```json\n{}\n```", "```\n{}```"]),
)
def test_any_json_is_read_as_it_was_written(value: Any, ascii_only: bool, around: str) -> None:
    anything = answer({"type": "object", "properties": {"v": {}}, "required": ["v"]})
    text = json.dumps({"v": value}, ensure_ascii=ascii_only)
    assert same(anything.parse(around.replace("{}", text)), {"v": value})


@given(st.lists(plain_values, max_size=5))
def test_what_is_no_object_is_wrapped_for_the_service_and_unwrapped(value: list[Any]) -> None:
    wanted = answer(list[Any])
    assert wanted.json_schema["type"] == "object"
    assert wanted.json_schema["required"] == ["value"]
    assert same(wanted.parse(json.dumps({"value": value})), value)
    assert same(wanted.parse(json.dumps(value)), value)


def test_a_pydantic_model_validates_and_its_plain_values_are_stored() -> None:
    wanted = answer(Person)
    given_as = {"firstName": "Ada", "age": 7, "friends": [{"firstName": "Bob", "age": 3}]}
    value = wanted.parse(json.dumps(given_as))
    assert value == Person.model_validate(given_as).model_dump(mode="json")
    assert value["age"] == 8
    assert value["friends"][0]["greeting"] == "Hello Bob"
    assert wanted.name == "Person"
    assert wanted.fields == ("name", "age", "address", "scores", "friends", "greeting")
    # a model that refers to itself has a reference at its root, which services do not take
    assert wanted.json_schema["type"] == "object"
    assert jsonschema_rs.is_valid(wanted.json_schema, given_as)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (int, "3", 3),
        (int, '{"value": 3}', 3),
        (bool, "True", True),
        (bool, "false", False),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"value": 1}', {"value": 1}),
        (Literal["a", "b"], "b", "b"),
        (Literal["a"], "'a'", "a"),
        (Colour, '{"value": "red"}', "red"),
        (Colour, "blue", "blue"),
        (Point, '{"x": 1}', {"x": 1, "y": 0}),
        (int | str | None, "null", None),
        ({"enum": ["low", 2, None]}, "low", "low"),
        ({"enum": ["low", 2, None]}, "null", None),
        ({"const": "only"}, "“only”", "only"),
        ({"type": "string"}, '{"value": "{\\"value\\": 1}"}', '{"value": 1}'),
        ({"properties": {"a": {"type": "integer"}}}, '{"a": 1, "a": 2}', {"a": 2}),
        ({"type": "array"}, "```JSON\r\n[]\r\n```", []),
    ],
)  # fmt: skip
def test_schemas_of_every_kind(schema: Any, text: str, value: Any) -> None:
    assert same(answer(schema).parse(text), value)


choices = st.lists(
    st.text(min_size=1).filter(str.strip), min_size=1, max_size=5, unique=True
) | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5, unique=True)


@given(choices, st.data())
def test_a_choice_is_read_in_each_way_a_model_writes_it(
    options: list[Any], data: st.DataObject
) -> None:
    choice = data.draw(st.sampled_from(options))
    wanted = answer(options)
    for text in (
        json.dumps(choice),
        json.dumps({"value": choice}),
        f"```\n{json.dumps(choice)}\n```",
    ):
        assert same(wanted.parse(text), choice)
    plain = isinstance(choice, int) or (
        choice.isalpha() and choice not in ("true", "false", "null")
    )
    if plain:
        for text in ("{}", " {}\n", "'{}'", '"{}"', "`{}`", "‘{}’", "```\n{}\n```"):
            assert same(wanted.parse(text.replace("{}", str(choice))), choice)


# -- answers that do not


@pytest.mark.parametrize(
    ("schema", "text", "mentions"),
    [
        (Person, "", ["no JSON"]),
        (Person, "Sure! Here it is: {}", ["no JSON", "character 1", "Sure!"]),
        (Person, '{"firstName": "Ada", "age": 3', ["no JSON", '"age": 3']),
        (Person, '{"firstName": "Ada"}', ["age: Field required"]),
        (Person, '{"firstName": 1, "age": "x"}', ["firstName: ", "not 1; age: ", "not 'x'"]),
        (Person, '{"firstName": "A", "age": -1}', ["age: Value error, nobody is so young, not -1"]),
        (Person, '{"firstName": "A", "age": 99}', ["validator", "KeyError", "99"]),
        (Person, '{"firstName": "A", "age": 3, "address": {"city": 3}}', ["address.city: "]),
        (Person, '{"firstName": "A", "age": 3, "scores": {"x": "nan"}}', ["scores.x: nan"]),
        (Person, '{"firstName": "A", "age": NaN}', ["no JSON", "NaN"]),
        (Person, '{"firstName": "A", "age": -Infinity}', ["no JSON", "Infinity"]),
        (Person, '{"firstName": "\\ud800", "age": 3}', ["no JSON", "surrogate"]),
        (Person, '{"firstName": "\ud800", "age": 3}', ["surrogates"]),
        (dict[str, Any], '{"a": 9223372036854775808}', ["64 bits"]),
        (dict[str, Any], '{"a": -%s}' % ("9" * 300), ["64 bits"]),
        (dict[str, Any], '{"a": "9223372036854775808", "b": 1e999}', ["no JSON"]),
        (int, '"9223372036854775808"', ["64 bits"]),
        ({"type": "array"}, "[" * 5000, ["no JSON"]),
        ({"type": "array"}, "[" * 1000 + "1234567890123456789" + "]" * 1000, ["nested too deep"]),
        (list[Any], "[" * 900 + "]" * 900, ["nested too deep"]),
        (PERSON, '{"name": 3, "tags": ["a", 4], "x": 1}', ["name: 3", "tags[1]: 4", "'x'"]),
        (PERSON, "[]", ["[] is not of type"]),
        ({"type": "string", "format": "date"}, '"tomorrow"', ["date"]),
        (["yes", "no"], "Yes, of course", ["'yes', 'no'", "Yes, of course"]),
        (["yes", "no"], '{"value": "maybe"}', ["'yes', 'no'"]),
        ([1, 2], "true", ["1, 2"]),
        (list[int], '{"value": [1, "x"]}', ["[1]: ", "not 'x'"]),
    ],
)
def test_answers_that_do_not_fit_say_where_and_why(
    schema: Any, text: str, mentions: list[str]
) -> None:
    with pytest.raises(AnswerFault) as caught:
        answer(schema).parse(text)
    for mention in mentions:
        assert mention in str(caught.value)


nasty = st.text(st.characters(categories=["L", "N", "P", "Cc", "Cs", "Zl"]), max_size=300)
wanted_of_all_kinds = st.sampled_from(
    [answer(Person), answer(PERSON), answer(["yes"]), answer(list[int])]
)


@given(wanted_of_all_kinds, nasty | plain_values.map(json.dumps))
def test_any_text_fits_or_gives_one_short_printable_line(wanted: Answer, text: str) -> None:
    line = ""
    try:
        wanted.parse(text)
    except AnswerFault as fault:
        line = str(fault)
    assert line.isprintable()
    assert len(line) < 1000


def test_many_and_long_faults_are_told_in_short() -> None:
    with pytest.raises(AnswerFault, match=r"\(and 997 more\)") as caught:
        answer(list[int]).parse(json.dumps(["\x1b[31m" + "x" * 10_000] * 1000))
    assert len(str(caught.value)) < 1000
    assert "\x1b" not in str(caught.value)


# -- schemas


def test_the_name_suits_services() -> None:
    assert answer(PERSON).name == "A_person_of_2026"
    assert answer(list[int]).name == answer({"title": "é", "type": "null"}).name == "answer"
    assert answer({"title": "x" * 99, "type": "null"}).name == "x" * 64


REFERRING = [
    {"type": "array", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"type": "integer"}}},
    {"$ref": "#/definitions/x", "definitions": {"x": {"type": ["integer", "null"]}}},
    {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]},
    {"type": "array", "prefixItems": [{"type": "string"}], "items": {"$ref": "#/prefixItems/0"}},
    {"anyOf": [{"properties": {"$ref": {"type": "integer"}, "enum": {"$ref": "#/anyOf/1"}},
                "required": ["enum"]}, {"enum": [{"$ref": "#"}, 1, "a"]}]},
    {"oneOf": [{"$ref": "#/$defs/a~1b"}, {"type": "string"}],
     "$defs": {"a/b": {"type": "array", "items": {"$ref": "#/oneOf/1"}}}},
]  # fmt: skip
small_values = st.recursive(
    st.sampled_from([None, 1, 2.5, "a", True]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$ref", "enum", "value"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.sampled_from(REFERRING), small_values | st.just({"$ref": "#"}))
def test_references_lead_to_the_same_place_in_the_wrapper(
    schema: dict[str, Any], value: Any
) -> None:
    wrapper, wrapped = rooted_in_object(schema)
    assert wrapped
    assert jsonschema_rs.is_valid(wrapper, {"value": value}) == jsonschema_rs.is_valid(
        schema, value
    )


def test_a_schema_that_the_user_changes_later_stays_as_it_was() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = answer(schema)
    schema["properties"]["a"]["type"] = "integer"  # type: ignore[index]
    assert wanted.parse('{"a": "x"}') == {"a": "x"}
    assert wanted.json_schema["properties"]["a"] == {"type": "string"}


@pytest.mark.parametrize("schema", [Person, PERSON, ["yes", "no"], list[int], Colour, Point])
def test_answers_survive_pickling_after_use(schema: Any) -> None:
    wanted = answer(schema)
    with pytest.raises(AnswerFault):
        wanted.parse("?")
    again = pickle.loads(pickle.dumps(wanted))
    assert again == wanted
    assert hash(again) == hash(wanted)
    with pytest.raises(AnswerFault):
        again.parse("?")


class Typed(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("schema", "kind", "mention"),
    [
        ("yes or no", TypeError, '["yes", "no"]'),
        (None, TypeError, "list of choices"),
        (3, TypeError, "pydantic model class"),
        (len, TypeError, "pydantic model class"),
        (lambda answer: answer, TypeError, "pydantic model class"),
        (Any, TypeError, "asks for nothing"),
        (type, TypeError, "list[str]"),
        (Address(city="Rome"), TypeError, "write schema=Address"),
        (Point(1), TypeError, "write schema=Point"),
        (Colour.RED, TypeError, "write schema=Colour"),
        ({"yes", "no"}, TypeError, "as a list"),
        ([], ValueError, "empty"),
        (["a", "b", "a"], ValueError, "'a' stands there twice"),
        ([1, 1.0], ValueError, "twice"),
        (["a", 1], ValueError, "write all as text"),
        ([True, 1], ValueError, "write all as text"),
        ([str], ValueError, "list[str]"),
        (["a", None], ValueError, "None is no choice"),
        (["a", " "], ValueError, "' ' is no choice"),
        ([float("inf")], ValueError, "inf is no number"),
        ([2**63], ValueError, "64 bits"),
        ([10**400], ValueError, "64 bits"),
        (["\ud800"], ValueError, "surrogate"),
        ({}, ValueError, "asks for nothing"),
        ({"name": "string"}, ValueError, '"properties"'),
        ({"type": str}, ValueError, '"string" for str'),
        ({"type": "strin"}, ValueError, "strin"),
        ({"type": "string", "pattern": "("}, ValueError, "invalid"),
        ({"$ref": "#"}, ValueError, "leads nowhere"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, ValueError, "leads nowhere"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, ValueError, "invalid"),
    ],
)
def test_wrong_schemas_say_what_to_write(schema: Any, kind: type[Exception], mention: str) -> None:
    with pytest.raises(kind) as caught:
        answer(schema)
    assert mention in str(caught.value)
    assert "\n" not in str(caught.value)


def test_typed_dicts_of_the_standard_library() -> None:
    if sys.version_info >= (3, 12):
        assert answer(Typed).fields == ("name",)
    else:
        with pytest.raises(TypeError, match=r"typing_extensions\.TypedDict"):
            answer(Typed)


@pytest.mark.parametrize("word", ["$ref", "$schema"])
def test_no_document_is_fetched(word: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema"
        with pytest.raises(ValueError, match="invalid"):
            answer({word: address, "type": "string"})
        with pytest.raises(BlockingIOError):
            server.accept()


# -- fields


@pytest.mark.parametrize(
    ("schema", "path", "fault"),
    [
        (PERSON, "name", None),
        (PERSON, "address.city", None),
        (PERSON, "extra.anything.at.all", None),
        (PERSON, "nmae", "no field 'nmae'; did you mean 'name'?"),
        (PERSON, "address.ctiy", "'address' has no field 'ctiy'; did you mean 'city'?"),
        (PERSON, "zzz", "there are name, address, tags, extra"),
        (PERSON, "name.first", "'name' has no fields"),
        (PERSON, "tags.0", "'tags' has no fields"),
        (Person, "greeting", None),
        (Person, "firstName", "no field 'firstName'"),
        (Person, "address.street", None),
        (Person, "address.street.number", "'address.street' has no fields"),
        (Person, "scores.maths", None),
        (Person, "scores.maths.best", "'scores.maths' has no fields"),
        (Point | Address, "city", None),
        (Point | Address, "z", "there are x, y, city, street"),
        (["yes", "no"], "name", "its answers have no fields"),
        (list[Point], "x", "its answers have no fields"),
        (dict[str, Point], "any.x", None),
        (dict[str, Point], "any.z", "no field 'z'"),
        ({"type": "object", "additionalProperties": False}, "a", "no fields"),
        ({"type": "object", "patternProperties": {"^x": {}}}, "x1.a", None),
        ({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": True}}],
          "$defs": {"a": {"type": "object", "properties": {"a": {"type": "null"}}}}}, "c", "a, b"),
    ],
)  # fmt: skip
def test_references_to_fields_are_checked(schema: Any, path: str, fault: str | None) -> None:
    found = answer(schema).field_fault(tuple(path.split(".")))
    assert found is None if fault is None else fault in str(found)


def test_fields_of_what_is_no_object() -> None:
    assert answer(["yes", "no"]).fields is None
    assert answer(list[Point]).fields is None
    assert answer(dict[str, int]).fields == ()
    assert answer(Point | Address).fields == ("x", "y", "city", "street")


@given(st.dictionaries(st.text(min_size=1), plain_values, min_size=1, max_size=4))
def test_every_field_of_a_fitting_value_may_be_named(value: dict[str, Any]) -> None:
    shape = {"type": "object", "properties": {name: {} for name in value}}
    wanted = answer(shape)
    assert all(wanted.field_fault((name,)) is None for name in value)
    assert fields_at(shape) == fields_at(wanted.json_schema)


def test_importing_the_module_is_light() -> None:
    heavy = {"pydantic", "jsonschema_rs"}
    code = f"import sys, chatan.schema.structured; print({heavy} & {{*sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
