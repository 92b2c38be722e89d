"""A Hugging Face model in this process: loading it, and what its tokenizer makes of messages.

All of it but ``identity`` and ``json_grammar`` runs in the one thread of ``torch_worker``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from chatan.providers.base import Message, ProviderError

_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model, and how it is loaded; columns with equal settings share one."""

    model: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder that ``model`` names, if it is a path and not a name on the Hub."""
        path = Path(self.model)
        return path if path.is_dir() or self.model.startswith(("/", "./", "../", "~")) else None

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of ``from_pretrained`` that say where it comes from."""
        return {
            "pretrained_model_name_or_path": str(self.folder or self.model),
            "revision": self.revision or "main",
            "trust_remote_code": self.trust_remote_code,
        }


class TorchModel:
    """A loaded causal language model and its tokenizer. Raises ``ProviderError``."""

    def __init__(self, settings: ModelSettings) -> None:
        with _loading(settings), quiet():
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            self.device = settings.device or _best_device(torch)
            if self.device == "cpu":
                # a core stays free for the rest: torch's threads wait for each other busily
                cores = max(1, (os.cpu_count() or 2) - 1)
                torch.set_num_threads(min(torch.get_num_threads(), cores))
            dtype = getattr(torch, settings.dtype) if settings.dtype else None
            self.tokenizer = AutoTokenizer.from_pretrained(**settings.source)
            model = AutoModelForCausalLM.from_pretrained(
                **settings.source, dtype=dtype or _best_dtype(torch, self.device)
            )
            self.model = model.to(self.device).eval()
        self.name = settings.model
        self.batch_size = 32 if self.device == "cpu" else 64
        config = self.model.config.get_text_config()
        self.vocabulary: int = config.vocab_size
        self.context: int | None = next(
            (getattr(config, name) for name in _CONTEXT_NAMES if hasattr(config, name)), None
        )
        self.ends = self._end_tokens()
        self.padding = next(
            each for each in (self.tokenizer.pad_token_id, *self.ends, 0) if each is not None
        )
        self._grammar_tokenizer: Any = None

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation, up to where the answer begins.

        A model without a chat template gets the messages' texts with an empty line between.
        """
        if not self.tokenizer.chat_template:
            text = "\n\n".join(message["content"] for message in messages)
            ids = self.tokenizer(text)["input_ids"]
        else:
            try:
                ids = self.tokenizer.apply_chat_template(
                    list(messages), add_generation_prompt=True, return_dict=True
                )["input_ids"]
            except Exception as error:  # templates are programs, and say no in their own ways
                raise ProviderError(
                    f"the chat template of {self.name} does not take these messages: "
                    f"{first_line(error)}",
                    kind="bad_request",
                    scope="cell",
                ) from error
        if self.context and len(ids) >= self.context:
            raise ProviderError(
                f"the prompt has {len(ids):,} tokens, and {self.name} reads at most "
                f"{self.context - 1:,} before it answers: shorten it",
                kind="too_long",
                scope="cell",
            )
        return list(ids)

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens, with the marks of the chat template if ``special``."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=not special)
        return text

    def grammar(self, schema: str) -> Any:
        """What lets through only the tokens of a JSON text that fits ``schema``."""
        import llguidance
        import llguidance.hf

        if self._grammar_tokenizer is None:
            self._grammar_tokenizer = llguidance.hf.from_tokenizer(
                self.tokenizer, eos_token=list(self.ends)
            )
        return llguidance.LLMatcher(self._grammar_tokenizer, json_grammar(schema))

    def free_memory(self) -> None:
        """Give back what a batch that did not fit has left on the accelerator."""
        import torch

        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _end_tokens(self) -> tuple[int, ...]:
        named = self.model.generation_config.eos_token_id
        if named is None:
            named = self.tokenizer.eos_token_id
        if named is None:
            return ()
        return (named,) if isinstance(named, int) else tuple(named)


def json_grammar(schema: str) -> str:
    """The grammar of a JSON schema for llguidance; raises ``ValueError`` where it knows none."""
    from llguidance import LLMatcher

    # white space is left to one form: small models can go on with it for ever
    grammar: str = LLMatcher.grammar_from_json_schema(
        schema,
        defaults={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
    )
    if fault := LLMatcher.validate_grammar(grammar):
        raise ValueError(first_line(fault))
    return grammar


@lru_cache
def identity(settings: ModelSettings) -> str:
    """Which weights these are: a digest of a folder's files, or the Hub's commit.

    Blocks; may run in any thread. Raises ``ProviderError``.
    """
    from hashlib import file_digest, sha256

    if settings.folder is None:
        with _loading(settings):
            from transformers import AutoConfig

            commit = AutoConfig.from_pretrained(**settings.source)._commit_hash
        return f"{settings.model}@{commit}"
    whole = sha256()
    for file in sorted(settings.folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                whole.update(file.relative_to(settings.folder).as_posix().encode())
                whole.update(file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def first_line(error: object) -> str:
    """What an error says first; libraries add pages of advice."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and remarks of transformers. In the one thread only."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _loading(settings: ModelSettings) -> Iterator[None]:
    """What goes wrong becomes a ``ProviderError`` of one line."""
    try:
        if settings.folder is not None and not settings.folder.is_dir():
            raise FileNotFoundError(f"there is no folder {settings.folder}")
        yield
    except Exception as error:
        raise _sorted(settings, error) from error


def _sorted(settings: ModelSettings, error: Exception) -> ProviderError:
    words = first_line(error)
    if isinstance(error, ImportError):
        wanted = error.name in ("torch", "transformers", "llguidance")
        hint = "pip install 'chatan-nb[transformers]'" if wanted else words
        return ProviderError(
            f"transformers cannot load {settings.model}: {hint}", kind="unknown_model", scope="run"
        )
    if "trust_remote_code" in str(error):
        return ProviderError(
            f"{settings.model} brings program code of its own; to run it, read it first and "
            "then write trust_remote_code=True",
            kind="bad_parameter",
            scope="run",
        )
    return ProviderError(
        f"transformers cannot load {settings.model}: {words}", kind="unknown_model", scope="run"
    )


def _best_device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_dtype(torch: Any, device: str) -> Any:
    """Half precision on accelerators; on a CPU it would make texts depend on their batch."""
    if device == "cpu":
        return torch.float32
    bfloat = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if bfloat else torch.float16
