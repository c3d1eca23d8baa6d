"""What rerankers on a server share: a limit of time, repetitions, and failures that carry nothing of a key.

A server's answer is untrusted. Whatever goes wrong with it ends as RerankerFailed, after which the order before stands.
The vendors' packages repeat requests each in its own way, and Voyage's neither a 500 nor a lost connection; here all do
it alike, with their own repetitions off.
"""

from __future__ import annotations

import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Thread
from typing import Any, TypeVar

import numpy as np

from schemas.errors import RerankerFailed
from schemas.settings import Settings
from tasks.blend import Blend

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
# Seconds before the second attempt, at least and in jitter; where the server says no other.
PAUSE_S = 0.5
# Refusals that may pass: request timeout, too early, too many requests.
PASSING = {408, 425, 429}
# Seconds after its limit of time that a request is given up.
GRACE_S = 1.0
# Packages that log what a server says, in which the key may be: Voyage's from INFO on, the others from DEBUG.
TALKATIVE = ("voyage", "openai", "botocore", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2")
# Of what a server says about a failure, so many characters are passed on.
QUOTED = 200


@dataclass(frozen=True)
class Refusal:
    """A server's answer that is none."""

    status: int  # of HTTP
    body: Any  # JSON or text
    headers: Mapping[str, str] = field(default_factory=dict)


class Remote(ABC):
    """A reranker on a server."""

    blend = Blend()

    def __init__(self, name: str, settings: Settings, key: str | None) -> None:
        self.name = self.fingerprint = name
        self.seconds = settings.rerank_timeout_s
        self._key = key
        for talkative in map(logging.getLogger, TALKATIVE):
            if talkative.level == logging.NOTSET:  # who has set another wants to read it
                talkative.setLevel(logging.WARNING)

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]: higher is more relevant; in the order of `texts`. Raises RerankerFailed."""
        return self.score_within(self.seconds, query, texts)

    def score_within(self, seconds: float, query: str, texts: Sequence[str]) -> np.ndarray:
        """As `score`, in so many seconds at most."""
        if not texts:
            return np.empty(0, dtype=np.float32)
        if seconds <= 0:
            raise RerankerFailed(f"no time was left to ask {self.name}")
        ends = time.monotonic() + seconds
        answer: Future[np.ndarray] = Future()

        def work() -> None:
            try:
                answer.set_result(self.scores(query, texts, ends))
            except BaseException as error:
                answer.set_exception(error)

        # The packages' own limits are for a pause between bytes, not for an answer. A daemon: who no longer waits for
        # the answer does not wait for it at the end of the process either.
        Thread(target=work, name=f"rerank {self.name}", daemon=True).start()
        try:
            return answer.result(timeout=seconds)
        except TimeoutError:
            raise RerankerFailed(f"{self.name} did not answer within {seconds:.3g} s") from None

    @abstractmethod
    def scores(self, query: str, texts: Sequence[str], ends: float) -> np.ndarray:
        """As `score`, until time.monotonic() says `ends`; of one text at least."""

    @abstractmethod
    def refusal(self, error: Exception) -> Refusal | None:
        """What the server answered, where that is what `error` tells."""

    def trying(self, call: Callable[[float], T], ends: float) -> T:
        """What `call` returns, which is given the seconds left; it is called again where that may help.

        Raises RerankerFailed.
        """
        import stamina  # not for who asks no server

        def pause(error: Exception) -> bool | float:
            if not (isinstance(error, RerankerFailed) and error.may_pass):
                return False
            if time.monotonic() + (2 * PAUSE_S if error.pause_s is None else error.pause_s) >= ends:
                return False  # what went wrong says more than that the time was up
            return True if error.pause_s is None else error.pause_s

        for attempt in stamina.retry_context(
            on=pause, attempts=ATTEMPTS, timeout=None, wait_initial=PAUSE_S, wait_jitter=PAUSE_S
        ):
            with attempt:
                left = ends - time.monotonic()
                if left <= 0:  # nobody waits any more: what is still to be asked would be paid for in vain
                    raise RerankerFailed(f"no time was left to ask {self.name}", may_pass=False)
                try:
                    # the package gives up later than `score_within`, which has one word for all of them
                    return call(left + GRACE_S)
                except Exception as error:  # a package raises whatever its reading of an answer stumbles over
                    # without its cause, whose text and request may hold the key
                    raise self._failed(error) from None
        raise AssertionError("stamina returns or raises")

    def _failed(self, error: Exception) -> RerankerFailed:
        refusal = self.refusal(error)
        if refusal is None or 200 <= refusal.status < 300:
            if refusal is None and not isinstance(error, ValueError | TypeError | LookupError | AttributeError):
                return RerankerFailed(f"{self.name} cannot be reached ({type(error).__name__})")
            why = str(error) if isinstance(error, Unusable) else type(error).__name__
            return RerankerFailed(f"{self.name} gave an answer that cannot be used ({why})")
        status = refusal.status
        words = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        # where a key is refused, servers quote it, whole or in parts
        said = "its key or its rights are refused" if status in {401, 403} else _said(refusal.body)
        if self._key:
            said = said.replace(self._key, "…")
        return RerankerFailed(
            f"{self.name} answered {status} {words}".rstrip() + (f": {said[:QUOTED]}" if said else ""),
            may_pass=status in PASSING or status >= 500,
            pause_s=_seconds(refusal.headers),
        )


class Hosted(Remote):
    """A reranker that scores all texts in one request."""

    def scores(self, query: str, texts: Sequence[str], ends: float) -> np.ndarray:
        """See Remote."""
        return self.trying(lambda seconds: aligned(self.ask(query, texts, seconds), len(texts)), ends)

    @abstractmethod
    def ask(self, query: str, texts: Sequence[str], seconds: float) -> Iterable[tuple[Any, Any]]:
        """Ask once: index and score of each text, in any order, as the server says. Raises what the package does."""


class Unusable(ValueError):
    """An answer that is no scores; the message is ours and quotes nothing."""


def aligned(ranked: Iterable[tuple[Any, Any]], count: int) -> np.ndarray:
    """float32[count] of indexes and scores in any order. Raises Unusable where they are not one finite score a text."""
    scores = np.full(count, np.nan, dtype=np.float32)
    for index, score in ranked:
        if type(index) is not int or not 0 <= index < count or not np.isnan(scores[index]):
            raise Unusable("it numbers a passage that was not sent, or one twice")
        if type(score) not in {int, float} or not math.isfinite(score):
            raise Unusable("a score is no number")
        scores[index] = score
    if missing := int(np.isnan(scores).sum()):
        raise Unusable(f"{missing} of {count} passages have no score")
    return scores


def _said(body: Any) -> str:
    """What a body says, on one line that a terminal can show."""
    while isinstance(body, dict) and (named := [body[name] for name in _NAMES if body.get(name)]):
        body = named[0]
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body, default=str)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


_NAMES = ("error", "message", "Message", "detail")


def _seconds(headers: Mapping[str, str]) -> float | None:
    """What the header Retry-After says in seconds; its other form, a date, is not read."""
    said = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        seconds = float(said)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
