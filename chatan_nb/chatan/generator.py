"""``chatan.generator``: a model with its parameters, and the prompt columns it makes."""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from chatan.engine.lanes import Concurrency, Source
from chatan.engine.launch import launch
from chatan.engine.plan import Plan, make_table
from chatan.engine.run import refuse_trio
from chatan.engine.scheduler import Work
from chatan.providers.base import AnswerFormat, Provider, ProviderError
from chatan.schema.columns import PromptColumn, StaticColumn
from chatan.schema.graph import Schema
from chatan.schema.nearest import suggestion
from chatan.schema.structured import answer

_PROVIDERS = {
    "openai": ("chatan.providers.openai", "OpenAIProvider"),
    "anthropic": ("chatan.providers.anthropic", "AnthropicProvider"),
    "transformers": ("chatan.providers.transformers", "TransformersProvider"),
    "local": ("chatan.providers.local", "LocalProvider"),
}
_ALIASES = {"hf": "transformers", "huggingface": "transformers"}
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, eq=False)
class GeneratorFunction(PromptColumn):
    """A prompt column, made by calling a generator; itself callable on one context.

    >>> import chatan
    >>> gen = chatan.generator("openai", "your-api-key")
    >>> gen("Write about {topic}").prompt
    'Write about {topic}'
    """

    generator: GeneratorClient = field(kw_only=True)

    if TYPE_CHECKING:

        def __call__(self, context: Mapping[str, Any] | None = None, /, **values: Any) -> Any: ...

    else:

        def __call__(self, context=None, /, **values):
            """The answer for one context: a value, or in async code what gives it when awaited.

            Parameters
            ----------
            context, **values
                What the names in braces stand for.

            Raises
            ------
            ProviderError
                If there is no answer.
            SchemaError
                If the prompt names something that the context does not hold.
            """
            if not isinstance(context, Mapping | None):
                raise TypeError(f"a prompt is called with a dictionary of its columns: {context!r}")
            given = {**(context or {}), **values}
            name = "answer"
            while name in given:
                name += "_"
            statics = {key: StaticColumn(value) for key, value in given.items()}
            schema = Schema({**statics, name: self})
            table = make_table(schema)
            # asked twice, a model may answer twice: unlike a cell, a call has no identity
            seed = random.getrandbits(62)
            work = Work(Plan(schema), table, seed, "")

            def collect() -> Any:
                for _, _, failure in table.failures():
                    raise ProviderError(
                        failure.message, kind=failure.kind, scope="cell", text=failure.answer
                    )
                return table.columns[name].get(0)

            refuse_trio()
            run = launch(lambda: work, range(1), collect)
            return run if _in_event_loop() else run.result()


class GeneratorClient:
    """A provider with its model and parameters; called with a template it makes a prompt column.

    Made by ``chatan.generator``.
    """

    no_column = (
        'a generator makes a column when it is called with a prompt: gen("Ask about {topic}")'
    )

    def __init__(
        self,
        source: Source,
        model: str,
        parameters: Mapping[str, Any],
        system: str | None,
    ) -> None:
        self._source = source
        self._parameters = dict(parameters)
        self._system = system
        self.model = model
        source.provider.prepare(model, parameters, None)

    @property
    def provider(self) -> Provider:
        """The provider that is asked."""
        return self._source.provider

    def __call__(
        self,
        prompt: str | None = None,
        *,
        system: str | None = None,
        messages: Sequence[Mapping[str, str]] | None = None,
        schema: Any = None,
        when: Callable[..., Any] | None = None,
        reuse: bool = False,
        on_length: Literal["keep", "fail"] = "keep",
        model: str | None = None,
        **parameters: Any,
    ) -> GeneratorFunction:
        """A prompt column.

        Parameters
        ----------
        prompt
            The template: ``{column}`` stands for the row's value of that column,
            ``{column.field}`` for a field of a structured one; ``{{name}}`` for literal braces.
        system
            A template for the system prompt, instead of the generator's own.
        messages
            A conversation of ``{"role": "user", "content": template}`` messages instead of, or
            before, ``prompt``; roles are system, user and assistant.
        schema
            What the answer must be: a pydantic model class, a JSON schema, a list of choices,
            or a type such as ``list[str]``. The column then holds validated values; an answer
            that does not fit is asked for again twice, then the cell fails with the text kept.
        when
            A function of the row; where it returns false the cell is skipped.
        reuse
            Ask equal prompts once and share the answer.
        on_length
            What becomes of text cut off by ``max_tokens``: kept (and counted) or failed.
        model
            Another model than the generator's.
        **parameters
            Parameters for this prompt, over the generator's: ``temperature``, ``max_tokens``,
            ``stop``, ...; none is sent that nobody set.

        Raises
        ------
        TypeError, ValueError
            If the prompt is missing, or the service is known not to take a parameter.
        """
        conversation = _conversation(prompt, system or self._system, messages)
        wanted = None if schema is None else answer(schema)
        if on_length not in {"keep", "fail"}:
            raise ValueError(f'on_length is "keep" or "fail", not {on_length!r}')
        call = self.provider.prepare(
            model or self.model,
            {**self._parameters, **parameters},
            AnswerFormat(wanted.name, wanted.json_schema) if wanted else None,
        )
        return GeneratorFunction(
            messages=conversation,
            source=self._source,
            call=call,
            answer=wanted,
            reuse=reuse,
            fail_on_length=on_length == "fail",
            when=when,
            generator=self,
        )

    def __repr__(self) -> str:
        return f"generator({self.provider.kind!r}, model={self.model!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a generator holds a key and is not pickled; make it anew where it is used")


def generator(
    provider: str,
    api_key: Any = None,
    *,
    model: str | None = None,
    system: str | None = None,
    concurrency: Concurrency = "auto",
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    **options: Any,
) -> GeneratorClient:
    """A model to generate with.

    Parameters
    ----------
    provider
        ``"openai"`` (and every server that speaks its language, by ``base_url``),
        ``"anthropic"``, ``"transformers"`` (also ``"hf"``; a model in this process), or
        ``"local"`` (a small embedded model, or any GGUF file; no key, no network).
    api_key
        The key, or a function that gives it. Without one the service's environment variable is
        read; a key is needed only when a call must be sent.
    model
        The model's name; for ``"local"`` the path of a GGUF file, for ``"transformers"`` a
        Hugging Face name or a folder. Defaults: ``gpt-4.1-mini`` (openai),
        ``claude-haiku-5-5`` (anthropic), SmolLM2-135M-Instruct (local); transformers has none.
    system
        A template for the system prompt of all columns.
    concurrency
        Requests in flight: a number, or ``"auto"`` to begin low and climb while answers come.
    requests_per_minute, tokens_per_minute
        Limits of yours; calls are spread evenly below them.
    **options
        Of the provider (``base_url``, ``extra_headers``, ``timeout`` in seconds, ``client``, ...)
        or parameters of the calls (``temperature``, ``max_tokens``, ``stop``, ``extra_body``, ...).

    Raises
    ------
    ValueError, TypeError
        If the provider, an option or a parameter is unknown, naming the nearest right one.

    >>> import chatan
    >>> chatan.generator("openai", "your-api-key", temperature=0.7)
    generator('openai', model='gpt-4.1-mini')
    """
    kind = _ALIASES.get(provider, provider) if isinstance(provider, str) else provider
    if kind not in _PROVIDERS:
        known = ", ".join(map(repr, _PROVIDERS))
        near = suggestion(str(provider), [*_PROVIDERS, *_ALIASES])
        raise ValueError(f"there is no provider {provider!r}{near} (there are {known})")
    if not (api_key is None or isinstance(api_key, str) or callable(api_key)):
        raise TypeError(f"api_key is a text, or a function that gives one, not a {type(api_key)}")
    if not isinstance(base_url := options.get("base_url"), str | None):
        raise TypeError(f"base_url is a text, not {base_url!r}")
    if concurrency != "auto" and (not isinstance(concurrency, int) or concurrency < 1):
        raise ValueError(f'concurrency is "auto" or a number from 1, not {concurrency!r}')
    for name, limit in {
        "requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute
    }.items():  # fmt: skip
        if limit is not None and not limit > 0:
            raise ValueError(f"{name} is a number above 0, not {limit!r}")
    module, class_name = _PROVIDERS[kind]
    maker = getattr(importlib.import_module(module), class_name)
    chosen = {name: options.pop(name) for name in list(options) if name in maker.options}
    if "model" in maker.options and model is not None:
        chosen["model"] = model
    if "api_key" in maker.options:
        chosen["api_key"] = api_key
    elif api_key is not None:
        raise TypeError(f"{provider!r} runs on this machine and takes no api_key; leave it out")
    made: Provider = maker(**chosen)
    source = Source(made, concurrency, requests_per_minute, tokens_per_minute)
    return GeneratorClient(source, model or made.default_model, options, system)


def _conversation(
    prompt: str | None, system: str | None, messages: Sequence[Mapping[str, str]] | None
) -> tuple[tuple[str, str], ...]:
    conversation: list[tuple[str, str]] = []
    for message in messages or ():
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise TypeError(f'a message is {{"role": ..., "content": ...}}, not {message!r}')
        if message["role"] not in _ROLES:
            raise ValueError(f"a message's role is {', '.join(_ROLES)}, not {message['role']!r}")
        conversation.append((message["role"], message["content"]))
    if prompt is not None:
        conversation.append(("user", prompt))
    if system is not None and not any(role == "system" for role, _ in conversation):
        conversation.insert(0, ("system", system))
    for role, text in conversation:
        if not isinstance(text, str):
            raise TypeError(f"a {role} message is a text, not {text!r}")
    if not any(role == "user" and text.strip() for role, text in conversation):
        raise ValueError('a prompt column needs a prompt: gen("Write about {topic}")')
    return tuple(conversation)


def _in_event_loop() -> bool:
    return asyncio._get_running_loop() is not None
