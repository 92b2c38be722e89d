"""Synthetic datasets with language models: a schema of columns in, a table out.

>>> import chatan
>>> gen = chatan.generator("openai", "your-api-key")
>>> ds = chatan.dataset({
...     "topic": chatan.sample.choice(["Python", "Rust"]),
...     "question": gen("Write a question about {topic}"),
... })
"""

from chatan.dataset import Dataset, augment, dataset
from chatan.engine.run import FailedCells, Progress, Run, RunCancelled
from chatan.generator import GeneratorClient, GeneratorFunction, generator
from chatan.providers.base import ProviderError
from chatan.schema.columns import function
from chatan.schema.graph import SchemaError
from chatan.schema.samplers import SampleFunction, SampleNamespace, sample

async_generator = generator

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "FailedCells",
    "GeneratorClient",
    "GeneratorFunction",
    "Progress",
    "ProviderError",
    "Run",
    "RunCancelled",
    "SampleFunction",
    "SampleNamespace",
    "SchemaError",
    "__version__",
    "async_generator",
    "augment",
    "dataset",
    "function",
    "generator",
    "sample",
]
