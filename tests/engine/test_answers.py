"""What models say: that does not fit, is cut off, is huge or strange; data, never executed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

import chatan
from chatan import FailedCells, sample
from chatan.providers.base import Completion, Usage
from engine.echo import echo, generator, later
from servers import LanguageModelServer


class Person(BaseModel):
    name: str
    age: int
    city: str | None = None


def scripted(*answers: object) -> Any:
    """The attempts of every cell are answered so; the last one for ever."""
    turns: dict[str, int] = {}

    def answer(prompt: str, attempt: int) -> object:
        turns[prompt] = turns.get(prompt, 0) + 1
        return answers[min(turns[prompt], len(answers)) - 1]

    return answer


RIGHT = '{"name": "Ada", "age": 36}'


def test_an_answer_that_does_not_fit_is_asked_for_again() -> None:
    gen, provider = echo(scripted("I think: Ada", '{"name": "Ada"}', RIGHT))
    ds = chatan.dataset({"p": gen("Who?", schema=Person), "n": lambda p: p["name"]})
    df = ds.generate(1)
    assert df["p"][0] == {"name": "Ada", "age": 36, "city": None}
    assert df["n"][0] == "Ada"
    assert provider.calls == 3
    assert len(set(provider.draws)) == 3, "or a model that repeats itself is asked in vain"


def test_after_three_attempts_it_fails_with_its_text_kept() -> None:
    gen, provider = echo(scripted('{"name": 1}', '{"name": 2}', '{"name": 3}', RIGHT))
    ds = chatan.dataset({"p": gen("Who?", schema=Person), "q": gen("{p.name} said")})
    with pytest.warns(FailedCells, match="p: invalid_answer x 1"):
        ds.generate(1)
    assert provider.calls == 3
    (error,) = ds.errors.to_dict("records")
    assert error["answer"] == '{"name": 3}'
    assert error["attempts"] == 3
    assert "age" in error["message"]
    assert ds["q"].states == {"blocked": 1}
    with pytest.warns(FailedCells):
        ds.generate(1)
    assert provider.calls == 3, "paid for once"


@pytest.mark.usefixtures("quick_retries")
def test_what_the_service_puts_off_is_no_attempt_at_an_answer() -> None:
    gen, provider = echo(scripted(*[later("server")] * 3, "no JSON", "nor this", RIGHT))
    ds = chatan.dataset({"p": gen("Who?", schema=Person)})
    assert ds.generate(1)["p"][0]["name"] == "Ada"
    assert provider.calls == 6


def test_answers_over_the_wire(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint()
    gen = chatan.generator("openai", "sk-test-key-123", base_url=endpoint.openai)
    numbers = sample.from_dataset({"n": list(range(20))}, "n", order="sequential")
    ds = chatan.dataset(
        {
            "n": numbers,
            "p": gen("Person {n}", schema=Person),
            "verdict": gen("Is {p.name} real?", schema=["yes", "no"]),
            "tags": gen("Tags of {p.name}, {p.age}", schema=list[str]),
            "old": lambda p: p["age"] > 50,
        }
    )
    df = ds.generate(20)
    assert all(Person(**person) for person in df["p"])
    assert set(df["verdict"]) <= {"yes", "no"}
    assert all(isinstance(tag, str) for tags in df["tags"] for tag in tags)
    assert df["old"].dtype == bool
    sent = [request["body"]["messages"][0]["content"] for request in endpoint.requests()]
    assert f"Is {df['p'][3]['name']} real?" in sent

    misfit = llm_server.endpoint(fault="misfit")
    gen = chatan.generator("openai", "sk-test-key-123", base_url=misfit.openai)
    ds = chatan.dataset({"p": gen("Who?", schema=Person)})
    with pytest.warns(FailedCells, match="invalid_answer"):
        ds.generate(2)
    assert len(misfit.requests()) == 6
    assert all(answer.startswith("{") for answer in ds.errors["answer"])


def cut(text: str) -> Completion:
    return Completion(text, Usage(5, 7), finish_reason="length")


def test_text_that_was_cut_off_is_kept_and_counted_or_refused() -> None:
    gen, provider = echo(lambda prompt, attempt: cut("Once upon a"))
    ds = chatan.dataset({"keep": gen("a"), "fail": gen("b", on_length="fail")})
    with pytest.warns(FailedCells, match="fail: length x 2"):
        df = ds.generate(2)
    assert list(df["keep"]) == ["Once upon a"] * 2
    assert df["fail"].isna().all()
    assert list(ds.errors["answer"]) == ["Once upon a"] * 2
    assert "raise max_tokens" in ds.errors["message"][0]
    assert provider.calls == 4, "it is not asked again"
    assert ds.usage.columns["keep"].cut_off == 2
    with pytest.raises(ValueError, match="on_length"):
        gen("x", on_length="drop")  # type: ignore[arg-type]


def test_structured_answers_that_were_cut_off_are_failed_attempts() -> None:
    gen, provider = echo(scripted(cut('{"name": "Ad'), cut(RIGHT), RIGHT))
    assert chatan.dataset({"p": gen("Who?", schema=Person)}).generate(1)["p"][0]["age"] == 36
    assert provider.calls == 3


STRANGE = [
    "",
    " ",
    "nul\x00in the middle",
    "{__class__} {0} {} {{x}} {n.__class__.__mro__} %s %(n)s ${n} {{n}} {{{n}}}",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "=HYPERLINK(1)",
    "line\r\nbreak\u2028\u2029\x85",
    "\U0001f600 \u0301 \ufeff \ufffe",
    json.dumps({"a": {"b": [1, {"c": "{n}"}]}}),
]


def test_strange_text_travels_whole_and_is_never_read_for_references() -> None:
    texts = sample.from_dataset({"t": STRANGE}, "t", order="sequential")
    gen, provider = echo(lambda prompt, attempt: prompt)
    ds = chatan.dataset({"n": "secret", "t": texts, "q": gen("{t}"), "a": gen("[{q}]")})
    df = ds.generate(len(STRANGE))
    assert list(df["q"]) == STRANGE
    assert list(df["a"]) == [f"[{text}]" for text in STRANGE]
    assert not any("secret" in prompt for prompt in provider.prompts)


def test_braces_in_prompts() -> None:
    gen, provider = echo()
    prompt = 'Answer {"a": {"b": ["{topic}", {}]}} as {{topic}}, {0}, {}, {"x"}, {!r}'
    ds = chatan.dataset({"topic": "{__class__}", "q": gen(prompt)})
    ds.generate(1)
    assert provider.prompts == [
        'Answer {"a": {"b": ["{__class__}", {}]}} as {topic}, {0}, {}, {"x"}, {!r}'
    ]
    with pytest.raises(chatan.SchemaError, match=r"\{topic\.__class__\}|names no column|field"):
        ds["q"].prompt = "{topik}"
    ds["q"].prompt = "{topic.__class__}"
    with pytest.warns(FailedCells, match="template"):
        ds.generate(1)
    assert "has no field '__class__'" in ds.errors["message"][0]


@pytest.mark.parametrize("fault", ["nul", "surrogate", "huge", "parts", "length"])
def test_strange_answers_over_the_wire(llm_server: LanguageModelServer, fault: str) -> None:
    endpoint = llm_server.endpoint(fault=fault)
    gen = chatan.generator("openai", "sk-test-key-123", base_url=endpoint.openai)
    ds = chatan.dataset({"q": gen("Q"), "len": lambda q: len(q)})
    df = ds.generate(2)
    text = df["q"][0]
    assert df["len"][0] == len(text)
    assert ds.usage.total.replaced == (2 if fault == "surrogate" else 0)
    assert ds.usage.total.cut_off == (2 if fault == "length" else 0)
    assert {"nul": "\x00", "surrogate": "\ufffd"}.get(fault, "") in text
    assert (len(text) >= 10_000_000) == (fault == "huge")
    assert ds.to_arrow()["q"].to_pylist() == [text, text]


def test_half_characters_in_prompts_and_names_are_refused_when_the_dataset_is_made() -> None:
    gen, _ = echo()
    with pytest.raises(chatan.SchemaError) as caught:
        chatan.dataset(
            {
                "half \ud83d": "x",
                "q": gen("half \ud83d", reuse=True),
                "s": gen("x", system="\udc00"),
            }
        )
    assert len(caught.value.faults) == 3
    assert all("half a character" in fault for fault in caught.value.faults)
    ds = chatan.dataset({"q": gen("whole \U0001f600", reuse=True)})
    with pytest.raises(chatan.SchemaError, match="half a character"):
        ds["q"].prompt = "\ud83d"


def test_half_characters_inside_json_that_a_model_wrote() -> None:
    gen, provider = echo(lambda prompt, attempt: '{"name": "\\ud83d", "age": 3}')
    ds = chatan.dataset({"p": gen("Who?", schema=Person)})
    with pytest.warns(FailedCells, match="invalid_answer"):
        ds.generate(1)
    assert provider.calls == 3
    assert ds.to_arrow()["p"].to_pylist() == [None]


def test_half_characters_from_a_model_in_this_process_fail_their_cell_only() -> None:
    gen, _ = echo(lambda prompt, attempt: "half \ud83d" if prompt == "1" else prompt)
    numbers = sample.from_dataset({"n": list(range(1100))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("{n}")})
    with pytest.warns(FailedCells, match="1 of 1,100 rows"):
        df = ds.generate(1100)
    assert df["q"].isna().sum() == 1
    assert "half a character" in ds.errors["message"][0]


NAMES = ["class", "two words", "ünï-cödé", "a.b", "None", "1", "it's", "row", "x" * 300, "__init__"]


def test_any_name_may_be_a_column() -> None:
    gen, provider = echo()
    columns: dict[str, Any] = {name: f"value {number}" for number, name in enumerate(NAMES)}
    columns["all"] = gen(" ".join(f"{{{name}}}" for name in NAMES))
    columns["given"] = chatan.function(lambda *values: "|".join(values), needs=NAMES)
    columns["from keyword"] = gen("{class} {all}")
    df = chatan.dataset(columns).generate(1)
    assert provider.prompts[0] == " ".join(f"value {number}" for number in range(len(NAMES)))
    assert df["given"][0] == "|".join(f"value {number}" for number in range(len(NAMES)))
    assert list(df.columns) == list(columns)


def conversation(request: Any) -> Sequence[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request.messages]


def test_system_prompts_and_conversations_are_templates_too() -> None:
    from engine.echo import EchoProvider

    class Remembering(EchoProvider):
        async def complete(self, request: Any) -> Completion:
            asked.append(conversation(request))
            return await super().complete(request)

    asked: list[Any] = []
    gen = generator(Remembering())
    messages = [
        {"role": "user", "content": "Hi {name}"},
        {"role": "assistant", "content": "{name}?"},
    ]
    columns = {"name": "Ada", "q": gen("Well, {name}", system="For {name}", messages=messages)}
    chatan.dataset(columns).generate(1)
    assert asked == [
        [("system", "For Ada"), ("user", "Hi Ada"), ("assistant", "Ada?"), ("user", "Well, Ada")]
    ]
