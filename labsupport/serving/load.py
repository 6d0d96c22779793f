"""Many requests at once: how long each waits, and how many tokens a second the server gives out together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import openai

from labsupport.core.files import LabError

MOST = 32  # clients at once: enough to see where a server stops gaining


@dataclass(frozen=True)
class Answered:
    """What became of one request. Times are in seconds from its sending."""

    text: str
    tokens: int  # completion tokens as the server counts them; the end of the turn is one
    first: float | None  # until the first piece of text
    seconds: float  # until the end, or until the error
    error: str = ""  # empty for a whole answer


@dataclass(frozen=True)
class Level:
    """So many clients at once, each sending its next request when it has the answer to the last."""

    clients: int
    seconds: float  # from the first sending to the last answer
    answers: list[Answered]  # in the order of the requests, failed ones too

    @property
    def failed(self) -> list[Answered]:
        """The requests without a whole answer."""
        return [answer for answer in self.answers if answer.error]

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens of whole answers, all clients together, over the level's time."""
        return sum(answer.tokens for answer in self.answers if not answer.error) / self.seconds

    @property
    def latency(self) -> float | None:
        """Median seconds until a whole answer; None if there was none."""
        return _median(answer.seconds for answer in self.answers if not answer.error)

    @property
    def first_token(self) -> float | None:
        """Median seconds until the first piece of text of a whole answer; None if there was none."""
        return _median(a.first for a in self.answers if not a.error and a.first is not None)


def ask(client: openai.OpenAI, model: str, messages: list[dict], max_tokens: int = 64) -> Answered:
    """One greedy request, streamed. An error becomes the answer's `error`, neither raised nor tried again."""
    begin, pieces, first, tokens, ended = time.perf_counter(), [], None, 0, False
    client = client.with_options(max_retries=0)  # a request that failed is to be seen
    try:
        options = {"max_tokens": max_tokens, "temperature": 0, "stream": True}
        with client.chat.completions.create(model=model, messages=messages, **options) as stream:
            for chunk in stream:
                for choice in chunk.choices:  # one, or none where a chunk is of usage alone
                    if text := choice.delta.content:
                        first = first or time.perf_counter() - begin
                        pieces.append(text)
                    ended = ended or choice.finish_reason is not None
                tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        error = "" if ended else "the stream ended before the answer did"
    except openai.OpenAIError as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Answered("".join(pieces), tokens, first, time.perf_counter() - begin, error)


def at_once(
    client: openai.OpenAI, model: str, conversations: Sequence[list[dict]], clients: int, max_tokens: int = 64
) -> Level:
    """Send each conversation once, `clients` of them at a time; as many answers as conversations come back.

    Bounded: every request is sent once, and the client's own timeout bounds the wait for each piece.
    LabError for a number of clients that is not 1 to MOST.
    """
    if not 1 <= clients <= MOST:
        raise LabError(f"{clients} clients at once: give 1 to {MOST}.")
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:  # threads, since a notebook has an event loop running already
        answers = list(pool.map(lambda messages: ask(client, model, messages, max_tokens), conversations))
    return Level(clients, time.perf_counter() - begin, answers)


def sweep(
    client: openai.OpenAI,
    model: str,
    conversations: Sequence[list[dict]],
    clients: Sequence[int] = (1, 2, 4, 8),
    max_tokens: int = 64,
) -> list[Level]:
    """`at_once` for each number of clients, the same conversations each time, after one request to warm up.

    LabError if the server does not answer that first request, with what it said.
    """
    warm = ask(client, model, conversations[0], max_tokens)
    if warm.error:
        raise LabError(f"The server does not answer for {model!r}: {warm.error}. Its log says why.")
    return [at_once(client, model, conversations, number, max_tokens) for number in clients]


def _median(values) -> float | None:
    values = list(values)
    return median(values) if values else None
