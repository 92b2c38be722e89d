"""A real causal language model of 200,000 random weights, made in a second."""

from __future__ import annotations

from pathlib import Path

CONTEXT = 256

_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CORPUS = [
    "the quick brown fox jumps over the lazy dog and asks a question about volcanoes",
    'write a one sentence answer: {"name": "Ada", "age": 36, "tags": ["a", "b"]} true false null',
    "Bäume, Flüsse, 山, río; 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ",
]


def make(folder: Path, *, template: str | None = _TEMPLATE, seed: int = 0) -> str:
    """Save a model and its tokenizer in ``folder``; its path, as a user would write it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    bytes_ = Tokenizer(models.BPE())
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    bytes_.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_, eos_token="<|end|>")
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            # wider than the tokenizer's, as those of many models are
            vocab_size=len(tokenizer) + 24,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            eos_token_id=tokenizer.eos_token_id,
            initializer_range=0.3,  # far from flat, so that sampling has something to choose
        )
    )
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
