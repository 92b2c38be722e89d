"""Answering a batch of prompts with ``generate``, each row as if it were alone.

``generate`` samples all rows of a batch from one stream of random numbers, so that a text would
depend on its neighbours. Here each row has its own: noise of the Gumbel distribution is added
to the scores and the greatest is taken, which draws from exactly the same distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from chatan.providers.base import Completion, ErrorKind, Message, ProviderError, Usage
from chatan.providers.torch_model import TorchModel, first_line, quiet


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen, the same for all rows of a batch; ``None``: as the model says."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def filled(self, config: Any) -> Sampling:
        """With the values of the model's ``generation_config`` where the user gave none."""
        temperature = self.temperature
        if temperature is None:
            # a model that says nothing of sampling is asked for its likeliest answer
            temperature = (
                (1.0 if config.temperature is None else config.temperature)
                if config.do_sample
                else 0.0
            )
        rest = ("top_p", "top_k", "min_p", "repetition_penalty")
        mine = {name: getattr(self, name) for name in rest}
        return Sampling(
            temperature,
            **{k: getattr(config, k, None) if v is None else v for k, v in mine.items()},
        )


@dataclass(eq=False, slots=True)
class Row:
    """One question, and what has been answered so far."""

    messages: Sequence[Message]
    sampling: Sampling
    seed: int
    max_tokens: int
    stop: tuple[str, ...] = ()
    schema: str | None = None
    future: Future[Completion] = field(default_factory=Future)
    prompt: list[int] = field(default_factory=list)
    limit: int = 0
    grammar: Any = None
    produced: list[int] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Answered, failed, or nobody waits for it any more."""
        return self.future.done()

    def encode(self, model: TorchModel) -> bool:
        """Turn the messages into tokens, once; false where it failed."""
        if not self.prompt:
            with self._failing("bad_request"):
                self.prompt = model.encode(self.messages)
                room = model.context - len(self.prompt) if model.context else self.max_tokens
                self.limit = min(self.max_tokens, room)
        return not self.over

    def begin(self, model: TorchModel) -> bool:
        """Stand at the beginning of the answer; false where it failed."""
        self.produced = []
        if self.schema is not None:
            with self._failing("bad_parameter"):
                self.grammar = model.grammar(self.schema)
        return not self.over

    @contextmanager
    def _failing(self, kind: ErrorKind) -> Iterator[None]:
        try:
            yield
        except ProviderError as error:
            self.fail(error)
        except Exception as error:
            self.fail(ProviderError(first_line(error), kind=kind, scope="cell"))

    def fail(self, error: ProviderError) -> None:
        """Tell who waits for it, unless it is over."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


def answer(model: TorchModel, rows: Sequence[Row]) -> None:
    """Answer rows of one sampling; each is told as soon as its own text is complete."""
    import torch
    from transformers import GenerationConfig

    prompts = [row.prompt for row in rows]
    width = max(map(len, prompts))
    ids = torch.full((len(rows), width), model.padding)
    mask = torch.zeros_like(ids)
    for number, prompt in enumerate(prompts):
        ids[number, width - len(prompt) :] = torch.tensor(prompt)
        mask[number, width - len(prompt) :] = 1
    batch = _Batch(model, rows)
    with torch.inference_mode(), quiet():
        model.model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,  # ours knows what is padding
                max_new_tokens=max(row.limit for row in rows),
                eos_token_id=list(model.ends) or None,
                pad_token_id=model.padding,
            ),
            logits_processor=[batch.choose],
            stopping_criteria=[batch.take],
        )


class _Batch:
    """Rows on their way through ``generate``, which calls back at every token."""

    def __init__(self, model: TorchModel, rows: Sequence[Row]) -> None:
        import torch
        from transformers import (
            MinPLogitsWarper,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        self._model = model
        self._rows = rows
        sampling = rows[0].sampling.filled(model.model.generation_config)
        self._warpers: list[Any] = []
        self._streams: list[Any] = []
        if sampling.temperature:
            self._warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_k:
                self._warpers.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p is not None and sampling.top_p < 1:
                self._warpers.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p:
                self._warpers.append(MinPLogitsWarper(sampling.min_p))
            self._streams = [torch.Generator(model.device).manual_seed(row.seed) for row in rows]
        self._penalty = sampling.repetition_penalty or 1.0
        self._seen: Any = None
        if self._penalty != 1.0:
            self._seen = torch.zeros(
                len(rows), model.vocabulary, dtype=torch.bool, device=model.device
            )
            for seen, row in zip(self._seen, rows, strict=True):
                seen[torch.tensor(row.prompt)] = True

    def choose(self, ids: Any, scores: Any) -> Any:
        """Scores whose greatest, in each row, is the token that comes next."""
        import torch

        for row, mine in zip(self._rows, scores, strict=True):
            if row.grammar is not None and not row.over:
                mine.masked_fill_(~self._allowed(row).to(mine.device), -torch.inf)
        if self._seen is not None:
            penalised = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
            scores = torch.where(self._seen, penalised, scores)
        for warper in self._warpers:
            scores = warper(ids, scores)
        if self._streams:
            noise = torch.empty_like(scores)
            for mine, stream in zip(noise, self._streams, strict=True):
                mine.exponential_(generator=stream)
            scores = scores - noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_()
        return scores

    def take(self, ids: Any, *_: Any, **__: Any) -> Any:
        """Note the token of each row; which rows are over."""
        import torch

        for number, (row, token) in enumerate(zip(self._rows, ids[:, -1].tolist(), strict=True)):
            if not row.over:
                if self._seen is not None:
                    self._seen[number, token] = True
                self._take(row, token)
        return torch.tensor([row.over for row in self._rows], device=ids.device)

    def _take(self, row: Row, token: int) -> None:
        row.produced.append(token)
        if token in self._model.ends or self._stopped(row) or self._complete(row, token):
            self._finish(row, "stop")
        elif len(row.produced) >= row.limit:
            self._finish(row, "length")

    def _stopped(self, row: Row) -> bool:
        if not row.stop:
            return False
        # a token holds a byte at least, so that no stop string is longer than this in tokens
        longest = max(len(stop.encode()) for stop in row.stop)
        tail = self._model.decode(row.produced[-longest - 1 :], special=True)
        return any(stop in tail for stop in row.stop)

    def _complete(self, row: Row, token: int) -> bool:
        """Whether the answer fits its schema and can go on no more."""
        if row.grammar is None:
            return False
        row.grammar.consume_token(token)
        if row.grammar.is_error():
            row.fail(
                ProviderError(
                    f"the answer's schema could not be followed: {row.grammar.get_error()}",
                    kind="invalid_answer",
                    scope="cell",
                    text=self._model.decode(row.produced),
                )
            )
        return bool(row.grammar.is_stopped())

    def _allowed(self, row: Row) -> Any:
        """The tokens that the schema lets come next, one truth value each."""
        import numpy as np
        import torch

        bits = np.frombuffer(row.grammar.compute_bitmask(), dtype=np.uint8)
        allowed = np.zeros(self._model.vocabulary, dtype=bool)  # may be wider than the tokenizer's
        known = np.unpackbits(bits, bitorder="little")[: len(allowed)]
        allowed[: len(known)] = known
        return torch.from_numpy(allowed)

    def _finish(self, row: Row, reason: str) -> None:
        text = self._model.decode(row.produced)
        for stop in row.stop:
            text = text.partition(stop)[0]
        usage = Usage(input_tokens=len(row.prompt), output_tokens=len(row.produced))
        if not text.strip():
            row.fail(
                ProviderError(
                    "the model answered nothing", kind="empty", scope="cell", text=text, usage=usage
                )
            )
            return
        with suppress(InvalidStateError):
            row.future.set_result(
                Completion(text, usage, finish_reason=reason, model=self._model.name)
            )
