"""A Hugging Face model in this process: its parameters, and one question at a time to it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from chatan.providers.base import AnswerFormat, Call, Completion, Provider, Request
from chatan.providers.parameters import SAMPLING, Range, checked
from chatan.providers.settings import digest
from chatan.providers.torch_batch import Row, Sampling
from chatan.providers.torch_model import ModelSettings, identity, json_grammar
from chatan.providers.torch_worker import Job, submit

_MAX_TOKENS = 256
_DTYPES = ("float32", "bfloat16", "float16")
_RANGES = {**SAMPLING, "repetition_penalty": Range(0.01, 100)}


@dataclass(frozen=True, slots=True)
class _Body:
    """What the rows of a column have in common."""

    settings: ModelSettings
    sampling: Sampling
    max_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    schema: str | None


class TransformersProvider(Provider):
    """A causal language model run by ``transformers``, on CUDA or Apple's GPU where there is one.

    Columns and generators that name the same model share one, which is loaded when the first
    cell asks it. Questions are answered in batches of whatever is ready.

    Parameters
    ----------
    model
        A name on the Hugging Face Hub, downloaded at the first use, or the path of a folder.
    device
        ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"cpu"``; the best there is if not given.
    dtype
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. Not given: half precision on an
        accelerator, ``"float32"`` on a CPU.
    batch_size
        The most rows of a batch (32 on a CPU, 64 elsewhere). A batch that does not fit in the
        memory of the accelerator is halved.
    trust_remote_code
        Run the Python code that comes with a model. Never unless you say so.
    revision
        A branch, tag or commit of a model on the Hub.

    Notes
    -----
    Parameters of ``generator`` and of prompts: ``temperature``, ``top_p``, ``top_k``,
    ``min_p``, ``repetition_penalty``, ``max_tokens`` (256), ``stop``, ``seed``. Those that are
    not given are the model's own (its ``generation_config``); a model that has none of its own
    answers greedily, as it does for ``temperature=0``. A model without a chat template is given
    the texts of the messages, an empty line between them.

    Every row draws from its own stream of random numbers, so that its text depends on its
    prompt and its draw and not on its neighbours. What remains is the rounding of floating
    point: padding and batch size change scores in their last digits, which changes a text only
    where two tokens are that close. In ``float32`` that is rare (no text of 72 differed with
    SmolLM2-135M in batches of 3, 8 and 32); in half precision every second text differs.

    >>> provider = TransformersProvider("HuggingFaceTB/SmolLM2-135M-Instruct", batch_size=8)
    >>> provider.capacity
    (16, 16)
    """

    kind: ClassVar[str] = "transformers"
    options: ClassVar[frozenset[str]] = frozenset(
        {"device", "dtype", "batch_size", "trust_remote_code", "revision"}
    )

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: Any = None,
        batch_size: int | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
    ) -> None:
        named = None if dtype is None else str(dtype).removeprefix("torch.")
        if named not in (None, *_DTYPES):
            raise ValueError(f"dtype={dtype!r}: write one of {', '.join(map(repr, _DTYPES))}")
        if batch_size is not None:
            batch_size = int(Range(1, whole=True).checked("batch_size", batch_size))
        self.default_model = str(model or "")
        self._settings = ModelSettings("", revision, device, named, trust_remote_code)
        self._batch_size = batch_size
        self.identity = digest(self.kind, repr(self._settings))
        # twice a batch: while one is made, the next gathers
        self.capacity = (2 * (batch_size or 64),) * 2

    def prepare(
        self, model: str, parameters: Mapping[str, Any], answer: AnswerFormat | None
    ) -> Call:
        """Check the parameters; raises ``ValueError``, also where no model is named."""
        settings = self._named(model)
        given = checked(parameters, _RANGES, where="transformers")
        schema = None if answer is None else json.dumps(answer.schema)
        if schema is not None and importlib.util.find_spec("llguidance"):
            json_grammar(schema)
        body = _Body(
            settings=settings,
            sampling=Sampling(**{k: v for k, v in given.items() if k in Sampling.__slots__}),
            max_tokens=given.get("max_tokens", _MAX_TOKENS),
            stop=tuple(given.get("stop", ())),
            seed=given.get("seed"),
            schema=schema,
        )
        return Call(settings.model, given, answer, body)

    async def complete(self, request: Request) -> Completion:
        """Ask once. A cancelled call frees its place in the batch at the next token."""
        body: _Body = request.call.body
        row = Row(
            messages=request.messages,
            sampling=body.sampling,
            seed=request.draw if body.seed is None else body.seed,
            max_tokens=body.max_tokens,
            stop=body.stop,
            schema=body.schema,
        )
        asked = time.perf_counter()
        submit(Job(body.settings, row, self._batch_size))
        completion = await asyncio.wrap_future(row.future)
        completion.latency = time.perf_counter() - asked
        return completion

    def model_identity(self, model: str) -> str:
        """The commit of a model on the Hub, or the SHA-256 of a folder's files. Blocks."""
        return identity(self._named(model))

    def _named(self, model: str) -> ModelSettings:
        name = str(model or self.default_model)
        if not name:
            raise ValueError(
                "name the model, for example generator('transformers', "
                "model='HuggingFaceTB/SmolLM2-135M-Instruct'), or the path of a folder"
            )
        folder = Path(name).expanduser()
        return replace(self._settings, model=str(folder.resolve()) if folder.is_dir() else name)
