from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatan.schema.template import Reference, Template, as_text

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "templates.json").read_text("utf-8"))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["text"][:40] or "empty")
def test_braces_are_read_as_the_golden_file_says(case: dict) -> None:
    template, faults = Template.parse(case["text"], case["columns"])
    wanted = case.get("faults", [])
    assert len(faults) == len(wanted), faults
    for fault, mention in zip(faults, wanted, strict=True):
        assert mention in fault
    if not wanted:
        parts = [
            Reference(part[0], tuple(part[1:])) if isinstance(part, list) else part
            for part in case["parts"]
        ]
        assert list(template.parts) == parts


names = st.text(st.characters(exclude_characters="{}\n", codec="utf-8"), min_size=1, max_size=12)


@given(st.lists(names, min_size=1, max_size=5, unique=True), st.data())
def test_any_column_can_be_named_and_escaped(columns: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(columns))
    value = data.draw(st.text())
    template, faults = Template.parse(f"a {{{name}}} b {{{{{name}}}}}", columns)
    assert not faults
    assert template.render({name: value}) == f"a {value} b {{{name}}}"


@given(st.text(alphabet=string.printable + "{}", max_size=60))
def test_text_without_faults_or_references_is_untouched(text: str) -> None:
    template, faults = Template.parse(text, ["zzzzzzzzqqqqqqqq"])
    if not faults and "{{" not in text:
        assert template.render({"zzzzzzzzqqqqqqqq": ""}) == text


@given(st.text())
def test_values_are_inserted_never_evaluated(value: str) -> None:
    template, _ = Template.parse("{a}{b}", ["a", "b"])
    assert template.render({"a": value, "b": "{a}"}) == value + "{a}"


def test_attributes_of_python_objects_cannot_be_reached() -> None:
    template, faults = Template.parse("{a.__class__}", ["a"])
    assert not faults
    for value in ("text", 3, object()):
        with pytest.raises(ValueError, match=r"\{a\.__class__\}.*no field '__class__'"):
            template.render({"a": value})
    assert template.render({"a": {"__class__": "mine"}}) == "mine"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (3, "3"),
        (0.5, "0.5"),
        (True, "True"),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
        (["x", None], '["x",null]'),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


def test_a_misspelt_field_is_told_with_the_nearest_one() -> None:
    template, _ = Template.parse("{person.nmae}", ["person"])
    with pytest.raises(ValueError, match=r"did you mean 'name'"):
        template.render({"person": {"name": "Ada"}})
    assert template.render({"person": None}) == ""
