"""What a path prefix asks of the server: latency, faults, limits; and what is counted under it."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from statistics import NormalDist
from typing import Any

from servers.errors import NAMES

PERCENTS = {
    "e429": "429",
    "e500": "500",
    "erst": "reset",
    "etrunc": "truncate",
    "ebad": "badjson",
    "estall": "stall",
}
SHAPES = {
    # what goes wrong without an error's status
    *("reset", "truncate", "badjson", "stall", "html", "noroute", "nonutf8", "surrogate", "huge"),
    *("nul", "emptychoices", "null_content", "length", "refusal", "filtered", "wrongtype"),
    *("contextexceeded", "misfit", "parts"),
}


@dataclass
class Options:
    """The options of a prefix such as ``lat=100,e429=5``; ``id`` only tells prefixes apart."""

    id: str = ""
    lat: float = 0.0  # milliseconds; the median where dist=ln
    dist: str = ""  # "ln": log-normal
    p99: float = 0.0  # milliseconds
    e429: float = 0.0  # percent of the attempts, each of these
    e500: float = 0.0
    erst: float = 0.0
    etrunc: float = 0.0
    ebad: float = 0.0
    estall: float = 0.0
    seed: int = 0
    fault: str = ""  # a status, or a name of errors.py or SHAPES: every attempt, or the
    # first `times` of each prompt
    times: int = 0
    ra: str = ""  # Retry-After of what fails
    rps: float = 0.0  # token bucket: requests per second
    burst: float = 1.0
    len: int = 400  # characters of a text
    think: int = 0  # 1: reasoning beside the answer
    close: float = 0.0  # milliseconds after which an idle connection ends, unannounced

    @classmethod
    def read(cls, prefix: str) -> Options:
        """Raises ``ValueError`` for an option that there is not."""
        known = {item.name: type(item.default) for item in fields(cls)}
        given: dict[str, Any] = {}
        for part in filter(None, prefix.split(",")):
            name, _, value = part.partition("=")
            if name not in known:
                raise ValueError(f"no option {name!r}; there are {', '.join(known)}")
            given[name] = known[name](value)
        fault = given.get("fault", "")
        if not (not fault or fault in SHAPES or fault in NAMES or fault.isdigit()):
            raise ValueError(f"no fault {fault!r}; there are {', '.join(sorted(SHAPES | NAMES))}")
        return cls(**given)


@dataclass
class Scope:
    """One prefix: its options, what was asked under it, and what was answered."""

    options: Options
    kept: int
    records: deque[Any] = field(init=False)
    statuses: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    running: int = 0
    most_running: int = 0

    def __post_init__(self) -> None:
        self.tokens = self.options.burst
        self.filled = time.monotonic()
        chances = [(fault, getattr(self.options, name)) for name, fault in PERCENTS.items()]
        self.chances = [(fault, percent) for fault, percent in chances if percent]
        self.counts_attempts = bool(self.chances or self.options.times)
        self.records = deque(maxlen=self.kept)

    def draw_fault(self, prompt: str) -> str:
        """The fault of the next attempt at ``prompt``: the same in every run."""
        options = self.options
        attempt = 0
        if self.counts_attempts:
            attempt = self.attempts[prompt]
            self.attempts[prompt] += 1
        if options.fault and (not options.times or attempt < options.times):
            return options.fault
        if self.chances:
            at = 100 * _uniform(f"{options.seed}|{attempt}|{prompt}")
            for fault, percent in self.chances:
                at -= percent
                if at < 0:
                    return fault
        return ""

    def draw_latency(self, prompt: str) -> float:
        """Seconds to wait before the answer."""
        options = self.options
        if options.dist != "ln":
            return options.lat / 1000
        sigma = math.log(options.p99 / options.lat) / NormalDist().inv_cdf(0.99)
        u = _uniform(f"latency|{options.seed}|{prompt}")
        return options.lat / 1000 * math.exp(sigma * NormalDist().inv_cdf(u))

    def wait_for_token(self) -> float:
        """Take a token of the bucket: 0.0, or the seconds until there is one."""
        if not self.options.rps:
            return 0.0
        now = time.monotonic()
        more = (now - self.filled) * self.options.rps
        self.tokens, self.filled = min(self.options.burst, self.tokens + more), now
        if self.tokens < 1:
            return (1 - self.tokens) / self.options.rps
        self.tokens -= 1
        return 0.0

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "running": self.running,
            "most_running": self.most_running,
            "prompts": len(self.attempts),
            **self.statuses,
        }


def _uniform(text: str) -> float:
    """A number inside (0, 1) that only ``text`` decides."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / (2**64 + 2)
