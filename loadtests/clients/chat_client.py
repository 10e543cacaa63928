"""Streaming chats at a fixed concurrency: tokens/s, time to first token, gaps between tokens.

The one module that imports aiohttp here.
"""

import asyncio
import gc
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp
import uvloop

from loadtests.errors import MeasurementError
from loadtests.percentiles import percentile

REQUEST_S_MAX = 600.0
WORDS = (
    *("river", "stone", "lamp", "garden", "winter", "copper", "signal", "harbour", "violin"),
    *("engine", "meadow", "thunder", "paper", "window", "compass", "orchard", "ladder", "mirror"),
)


@dataclass(frozen=True)
class ChatTimes:
    """One streamed answer, times in seconds from when the request was sent."""

    ttft_s: float
    end_s: float
    tokens: int
    gaps_s: tuple[float, ...]
    prompt_tokens: int = 0


@dataclass(frozen=True)
class ChatLoad:
    """A whole run at one concurrency."""

    concurrency: int
    duration_s: float
    chats: tuple[ChatTimes, ...]

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens a second, over all chats."""
        return sum(chat.tokens for chat in self.chats) / self.duration_s

    def ttft_ms(self, percent: float) -> float:
        """A percentile of the times to first token."""
        return percentile(sorted(chat.ttft_s * 1e3 for chat in self.chats), percent)

    def gap_ms(self, percent: float) -> float:
        """A percentile of the gaps between tokens."""
        gaps_ms = sorted(gap * 1e3 for chat in self.chats for gap in chat.gaps_s)
        return percentile(gaps_ms or [0.0], percent)


def prompts(count: int, seed: int, words: int = 24) -> list[str]:
    """Prompts of equal length that share no beginning, so that no prefix is cached."""
    source = random.Random(seed)
    return [
        f"{source.randrange(10**8):08d}: write a story about "
        + ", ".join(source.choice(WORDS) for _ in range(words))
        for _ in range(count)
    ]


def run_chats(
    url: str,
    *,
    model: str,
    headers: Mapping[str, str],
    texts: Sequence[str],
    concurrency: int,
    output_tokens: int | Sequence[int],
) -> ChatLoad:
    """Send every text as a streaming chat, `concurrency` at a time; greedy.

    Answers have `output_tokens`: all the same, or a length for each text.

    Raises:
        MeasurementError: an answer was refused, broke off or had another length.
    """
    lengths = [output_tokens] * len(texts) if isinstance(output_tokens, int) else output_tokens
    gc.collect()
    gc.disable()
    try:
        load: ChatLoad = uvloop.run(_run_chats(url, model, headers, texts, concurrency, lengths))
    finally:
        gc.enable()
    return load


async def _run_chats(
    url: str,
    model: str,
    headers: Mapping[str, str],
    texts: Sequence[str],
    concurrency: int,
    output_tokens: Sequence[int],
) -> ChatLoad:
    chats_left = [*zip(texts, output_tokens, strict=True)][::-1]
    chats: list[ChatTimes] = []
    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=REQUEST_S_MAX)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers={**headers}
    ) as session:

        async def work() -> None:
            while chats_left:
                text, tokens = chats_left.pop()
                chat = await _chat(session, url, _body(model, text, tokens))
                if chat.tokens != tokens:
                    raise MeasurementError(f"{chat.tokens} tokens instead of {tokens} from {url}")
                chats.append(chat)

        started = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work())
        except* (aiohttp.ClientError, TimeoutError) as errors:
            raise MeasurementError(f"{url}: {errors.exceptions[0]!r}") from errors
        except* MeasurementError as errors:
            raise MeasurementError(str(errors.exceptions[0])) from errors
        duration_s = time.perf_counter() - started
    return ChatLoad(concurrency, duration_s, tuple(chats))


async def _chat(session: aiohttp.ClientSession, url: str, body: bytes) -> ChatTimes:
    started = time.perf_counter()
    arrivals: list[float] = []
    tokens = prompt_tokens = 0
    async with session.post(
        url, data=body, headers={"Content-Type": "application/json"}
    ) as response:
        if response.status != 200:
            raise MeasurementError(f"{url} answered {response.status}: {await response.text()}")
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise MeasurementError(f"{url} ended a stream with {event['error']}")
            if any(choice["delta"].get("content") for choice in event["choices"]):
                arrivals.append(time.perf_counter() - started)
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
                prompt_tokens = event["usage"]["prompt_tokens"]
    if not arrivals:
        raise MeasurementError(f"{url} streamed no text")
    end_s = time.perf_counter() - started
    return ChatTimes(arrivals[0], end_s, tokens, tuple(_gaps(arrivals)), prompt_tokens)


def _gaps(arrivals: Sequence[float]) -> Iterator[float]:
    return (later - earlier for earlier, later in pairwise(arrivals))


def _body(model: str, text: str, output_tokens: int) -> bytes:
    return json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
