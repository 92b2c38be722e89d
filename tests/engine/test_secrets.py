"""No key in a repr, an error, a log of local variables, or a pickle."""

from __future__ import annotations

import copy
import pickle
import traceback
import warnings
from pprint import pformat
from typing import Any

import pytest

import chatan
from chatan import ProviderError
from servers import LanguageModelServer

KEY = "sk-test-Zq81xVY0nobodyshouldseethis"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_nothing_that_can_be_printed_shows_the_key(kind: str) -> None:
    gen = chatan.generator(kind, KEY, extra_headers={"X-Api-Token": KEY})
    prompt = gen("Hi", system="S", extra_headers={"Authorization": f"Bearer {KEY}"})
    ds = chatan.dataset({"q": prompt})
    for thing in (gen, gen.provider, prompt, prompt.call, prompt.source, ds, ds["q"], ds.graph):
        assert KEY not in repr(thing) + str(thing) + pformat(thing)


@pytest.mark.parametrize("transport", ["lean", "sdk"])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", ["401", "echo", "reset", "truncate", None])
@pytest.mark.usefixtures("quick_retries", "few_certificates")
def test_no_error_shows_the_key_not_even_its_local_variables(
    llm_server: LanguageModelServer, kind: str, transport: str, fault: str | None
) -> None:
    service: Any = llm_server.endpoint(**({"fault": fault} if fault else {}))
    url = getattr(service, kind) if fault else "http://127.0.0.1:9/v1"
    gen = chatan.generator(kind, KEY, base_url=url, transport=transport)
    ds = chatan.dataset({"q": gen("Hi")})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", chatan.FailedCells)
            ds.generate(2)
        told = ds.errors.to_string()
        assert len(ds.errors) == 2
    except ProviderError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        told = repr(error) + "".join(shown.format())
    assert KEY not in told


def test_what_holds_a_key_is_not_copied() -> None:
    gen = chatan.generator("openai", KEY)
    prompt = gen("Hi")
    ds = chatan.dataset({"q": prompt})
    for thing in (gen, gen.provider, prompt, ds, ds["q"]):
        with pytest.raises(TypeError, match=r"make it anew|not copied"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match=r"make it anew|not copied"):
            copy.deepcopy(thing)
