"""The shell: ``chatan run``, ``chatan demo`` and ``chatan model fetch``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatan.engine.run import FailedCells

if TYPE_CHECKING:
    from chatan.dataset import Dataset

_RUN = """\
Make the rows of a dataset that a Python file describes, and write them to a file.

  # qa.py
  import chatan
  gen = chatan.generator("local")
  ds = chatan.dataset({
      "topic": chatan.sample.choice(["rain", "bread"]),
      "question": gen("Write a question about {topic}"),
  })

  chatan run qa.py -n 100 -o qa.parquet
  chatan run qa.py:ds -n 100 -o qa.csv        the dataset named ds, where a file has several
"""

_EPILOG = """\
examples:
  chatan demo                                 12 rows with the embedded model, no key needed
  chatan run qa.py -n 100 -o qa.parquet       your own dataset
  chatan run --help                           what such a file looks like
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shell; gives the exit code: 0, 1 where something failed, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "do"):
        parser.print_help()
        return 2
    try:
        return int(options.do(options) or 0)
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", None) or ["stopped"]
        print(notes[0], file=sys.stderr)
        return 130
    except Exception as error:
        if options.traceback:
            raise
        told = [*getattr(error, "__notes__", []), str(error)]
        print(f"error: {''.join(told)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from chatan import __version__

    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "chatan", description="Synthetic datasets with language models.", epilog=_EPILOG,
        formatter_class=plain,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"chatan {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = commands.add_parser(
        "run", help="make the rows of a dataset", description=_RUN, formatter_class=plain
    )
    run.add_argument("file", metavar="FILE[:NAME]", help="a Python file, and the dataset in it")
    run.add_argument("-n", type=int, help="rows in all (default: what the dataset says)")
    run.add_argument("-o", "--out", metavar="PATH", help="a .parquet, .csv, .json or .jsonl file")
    run.add_argument("--concurrency", type=int, metavar="N", help="requests in flight, at most")
    run.set_defaults(do=_run)

    demo = commands.add_parser(
        "demo",
        help="make 12 rows with the embedded model",
        description="Make 12 rows of questions and answers with the embedded model "
        "(a 93 MB download, once) and write them to a file. The model is small: the text shows "
        "how things work, it is no data to use.",
    )
    demo.add_argument("-o", "--out", default="demo.parquet", metavar="PATH")
    demo.set_defaults(do=_demo)

    model = commands.add_parser("model", help="the embedded model")
    model.set_defaults(do=lambda _: print(model.format_help(), end="") or 2)
    models = model.add_subparsers(title="commands", metavar="COMMAND")
    fetch = models.add_parser("fetch", help="download the embedded model (93 MB), once")
    fetch.set_defaults(do=_fetch)
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.out is not None:
        from chatan.export import format_of

        format_of(options.out)
    ds = _load(options.file)
    if options.n is None and ds.n is None:
        raise ValueError("how many rows? write -n 100, or chatan.dataset({...}, n=100) in the file")
    return _make(ds, options.n, options.out, concurrency=options.concurrency)


def _make(ds: Dataset, n: int | None, out: str | None, **limits: Any) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedCells)  # told below, in the shell's own words
        try:
            frame = ds.run(n, **limits)
        except KeyboardInterrupt as interrupt:
            interrupt.__notes__ = [_keep(ds, out)]
            raise
    usage = ds.usage
    if out is None:
        print(frame.to_string(max_rows=20, max_colwidth=60))
    else:
        print(f"{len(frame):,} rows -> {ds.save(out)}")
    if usage.calls:
        print(
            f"{usage.calls:,} calls, {usage.input_tokens:,} tokens in, "
            f"{usage.output_tokens:,} tokens out"
        )
    errors = ds.errors
    if errors.empty:
        return 0
    print(f"{len(errors):,} cells failed:", file=sys.stderr)
    for (column, kind), group in errors.groupby(["column", "kind"], sort=False):
        print(f"  {column}: {kind} x {len(group):,}: {group['message'].iloc[0]}", file=sys.stderr)
    return 1


def _keep(ds: Dataset, out: str | None) -> str:
    """After an interruption: write what is finished beside the file it was meant for."""
    finished = ds.to_arrow(finished=True)
    told = f"stopped with {finished.num_rows:,} rows finished"
    if out is None or not finished.num_rows:
        return told
    from chatan.export import save

    path = Path(out)
    return f"{told} -> {save(finished, path.with_name(f'{path.stem}.partial{path.suffix}'))}"


def _demo(options: argparse.Namespace) -> int:
    import chatan

    _fetch(options)
    gen = chatan.generator("local", temperature=0.7, max_tokens=96)
    ds = chatan.dataset(
        {
            "topic": chatan.sample.choice(
                ["the rain", "bicycles", "volcanoes", "bread", "the moon"]
            ),
            "question": gen("Write one short question about {topic}."),
            "answer": gen("Answer in one or two sentences: {question}"),
            "words": lambda answer: len(answer.split()),
        },
        name="demo",
    )
    code = _make(ds, 12, options.out)
    print()
    for row in ds.to_arrow().to_pylist():
        print(f"[{row['topic']}]")
        print(f"  Q: {_one_line(row['question'])}")
        print(f"  A: {_one_line(row['answer'])}")
    return code


def _fetch(options: argparse.Namespace) -> int:
    del options
    from chatan.providers import weights

    print(f"the embedded model: {weights.fetch(print)}")
    return 0


def _load(name: str) -> Dataset:
    """The dataset that a file describes, by ``file.py`` or ``file.py:name``."""
    from chatan.dataset import Dataset

    path, _, wanted = name.rpartition(":") if ".py:" in name else (name, "", "")
    file = Path(path)
    if not file.is_file() or file.suffix != ".py":
        raise FileNotFoundError(
            f"there is no Python file {path!r}: write chatan run FILE.py or FILE.py:NAME"
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        error.add_note(_place(error, file))
        raise
    found = {key: value for key, value in vars(module).items() if isinstance(value, Dataset)}
    if wanted:
        if wanted not in found:
            raise ValueError(f"{path} has no dataset {wanted!r}; it has {_listed(found)}")
        return found[wanted]
    if len({id(value) for value in found.values()}) != 1:
        raise ValueError(f"which dataset of {path}? it has {_listed(found)}: write {path}:NAME")
    return next(iter(found.values()))


def _place(error: BaseException, file: Path) -> str:
    """Where in the user's file an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    here = file.resolve()
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == here]
    return f"{file}, line {lines[-1] if lines else 1}: {type(error).__name__}: "


def _listed(found: dict[str, Dataset]) -> str:
    return ", ".join(found) or "none (make one by chatan.dataset({...}) outside any function)"


def _one_line(text: str | None) -> str:
    """Model text for a terminal: one line, control characters made visible."""
    if text is None:
        return "(failed)"
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)[:300]
