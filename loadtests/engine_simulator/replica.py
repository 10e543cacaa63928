"""One fake replica: an engine, its port, and the paths that vLLM has and a gateway uses."""

import asyncio
import math
from collections.abc import Callable
from random import Random
from typing import Any

from loadtests.engine_simulator.answer import Answer
from loadtests.engine_simulator.batch import Sequence
from loadtests.engine_simulator.engine import SimulatedEngine
from loadtests.engine_simulator.faults import FaultCommand, Faults
from loadtests.engine_simulator.generation_request import (
    GenerationRequest,
    RequestRefused,
    read_request,
)
from loadtests.engine_simulator.http_connection import HttpConnection, Request
from loadtests.engine_simulator.prefix_cache import PrefixCache
from loadtests.engine_simulator.profile import EngineProfile

ENDPOINTS = ("chat/completions", "completions")
BACKLOG = 2048
# Spread of answers that end by themselves: chat logs are close to log-normal with a long tail.
_ANSWER_SIGMA = 0.8


class Replica:
    """A replica on a loopback port of its own."""

    def __init__(
        self,
        index: int,
        profile: EngineProfile,
        *,
        model: str,
        slots: int,
        speed: float,
        answer_tokens_mean: float,
        seed: int,
        clock: Callable[[], float],
    ) -> None:
        self.index = index
        self.model = model
        self.slots = slots
        self.replica_id = f"sim{index:02d}"
        self.url = ""
        self.is_up = False
        self.counts = {"arrived": 0, "finished": 0, "aborted": 0, "refused": 0}
        self.finished_tokens = 0
        self._source = Random(f"{seed}/{index}")
        self._faults = Faults(Random(f"{seed}/{index}/faults"))
        self._speed = speed
        self.engine = SimulatedEngine(profile, self._faults, speed=speed, clock=clock)
        self._prefix_cache = self._new_prefix_cache()
        # The mean of a log-normal is exp(mu + sigma²/2).
        self._answer_mu = math.log(answer_tokens_mean) - _ANSWER_SIGMA**2 / 2
        self._opened: set[HttpConnection] = set()
        self._answers: set[Answer] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    def _new_prefix_cache(self) -> PrefixCache:
        profile = self.engine.profile
        return PrefixCache(blocks_max=profile.kv_blocks, block_tokens=profile.block_tokens)

    async def start(self, port: int) -> None:
        """Listen; 0 takes any port that is free. Raises OSError when the port is taken."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self, self._opened), "127.0.0.1", port, backlog=BACKLOG
        )
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.is_up = True

    def crash(self) -> None:
        """Close the port and every connection, and lose all work."""
        self.is_up = False
        if self._server is not None:
            self._server.close()
            self._server = None
        self.engine.drop_all()
        self._prefix_cache = self._new_prefix_cache()
        self._answers.clear()
        for connection in tuple(self._opened):
            connection.on_gone = None
            connection.abort()

    async def take(self, command: FaultCommand) -> None:
        """Do what a fault command says."""
        if command.kind == "crash" and self.is_up:
            self.crash()
        elif command.kind == "restore" and not self.is_up:
            await self.start(self._port)
        elif command.kind == "stall":
            self.engine.stall(command.duration_s)
        else:
            self._faults.set(command)
            if command.kind == "clear":
                self.engine.end_stall()

    def handle(self, request: Request, connection: HttpConnection) -> None:
        """Answer one request."""
        if request.path in ("/v1/chat/completions", "/v1/completions"):
            self._generate(request, connection)
        elif request.path == "/v1/models":
            connection.send_json(200, {"object": "list", "data": [self._model_card()]})
        elif request.path in ("/health", "/ping"):
            connection.send(200, b"")
        elif request.path == "/metrics":
            connection.send(200, self._metrics().encode(), b"text/plain; version=0.0.4")
        else:
            connection.send_json(404, {"detail": "Not Found"})

    def _generate(self, request: Request, connection: HttpConnection) -> None:
        self.counts["arrived"] += 1
        if self._faults.is_next_an_error():
            self.counts["refused"] += 1
            connection.send_json(500, _error("injected fault", "InternalServerError", 500))
            return
        try:
            asked = read_request(request.body, is_chat=request.path.endswith("chat/completions"))
            sequences = self._sequences(asked)
        except RequestRefused as error:
            self.counts["refused"] += 1
            connection.send_json(400, _error(str(error), "BadRequestError", 400))
            return
        for text in asked.texts:
            self._prefix_cache.look(text)
        asked.texts = []
        answer = Answer(
            asked,
            connection,
            request_id=request.headers.get("x-request-id") or f"{self._source.getrandbits(64):x}",
            model=self.model,
            sequences=sequences,
            cut_after_tokens=self._faults.next_cut_after_tokens(),
            on_end=self._end,
        )
        for sequence in sequences:
            sequence.owner = answer
        self._answers.add(answer)
        connection.on_gone = lambda: self._end(answer)
        answer.begin()
        spread_s = self.engine.profile.request_spread_s
        if spread_s:
            late_s = self._source.uniform(0.0, spread_s) / self._speed
            asyncio.get_running_loop().call_later(late_s, self._submit, answer)
        else:
            self._submit(answer)

    def _submit(self, answer: Answer) -> None:
        if answer in self._answers:  # else its caller has left meanwhile
            self.engine.submit(answer.sequences)

    def _sequences(self, asked: GenerationRequest) -> list[Sequence]:
        profile = self.engine.profile
        found = []
        for number, prompt_tokens in enumerate(asked.prompts):
            room = min(profile.context_tokens_max, profile.kv_tokens) - prompt_tokens
            cap = room if asked.output_cap is None else asked.output_cap
            if cap < 1 or cap > room:
                raise RequestRefused(
                    f"This model's maximum context length is {profile.context_tokens_max} tokens; "
                    f"{prompt_tokens} of the prompt and {max(cap, 1)} of the answer exceed it."
                )
            for choice in range(asked.choices):
                output_tokens = cap if asked.ignores_eos else min(cap, self._answer_tokens())
                index = number * asked.choices + choice
                found.append(Sequence(prompt_tokens, output_tokens, index=index))
        return found

    def _answer_tokens(self) -> int:
        return max(1, round(self._source.lognormvariate(self._answer_mu, _ANSWER_SIGMA)))

    def _end(self, answer: Answer) -> None:
        """An answer is out, or its caller is gone."""
        self._answers.discard(answer)
        if answer.is_complete:
            self.counts["finished"] += 1
            self.finished_tokens += answer.tokens
        else:
            self.counts["aborted"] += 1
            self.engine.abort(answer.sequences)

    def _model_card(self) -> dict[str, Any]:
        return {
            "id": self.model,
            "object": "model",
            "owned_by": "engine simulator",
            "max_model_len": self.engine.profile.context_tokens_max,
        }

    def stats(self) -> dict[str, Any]:
        """Counts since the start, and the load now."""
        engine = self.engine
        return {
            "index": self.index,
            "replica_id": self.replica_id,
            "url": self.url,
            "is_up": self.is_up,
            "slots": self.slots,
            "requests_open": len(self._answers),
            "running": engine.running,
            "waiting": engine.waiting,
            "kv_use": round(engine.batch.kv_use, 4),
            "preemptions": engine.batch.preemptions,
            "generation_tokens": engine.generation_tokens,
            "prompt_tokens": engine.prompt_tokens,
            "finished_tokens": self.finished_tokens,
            "prefix_query_tokens": self._prefix_cache.query_tokens,
            "prefix_hit_tokens": self._prefix_cache.hit_tokens,
            "lag_s_max": engine.lag_s_max,
            **self.counts,
        }

    def _metrics(self) -> str:
        """The load under vLLM's names."""
        engine = self.engine
        values = (
            ("gauge", "num_requests_running", engine.running),
            ("gauge", "num_requests_waiting", engine.waiting),
            ("gauge", "kv_cache_usage_perc", engine.batch.kv_use),
            ("counter", "num_preemptions_total", engine.batch.preemptions),
            ("counter", "prefix_cache_queries_total", self._prefix_cache.query_tokens),
            ("counter", "prefix_cache_hits_total", self._prefix_cache.hit_tokens),
            ("counter", "prompt_tokens_total", engine.prompt_tokens),
            ("counter", "generation_tokens_total", engine.generation_tokens),
        )
        labels = f'{{engine="0",model_name="{self.model}"}}'
        lines = []
        for kind, name, value in values:
            lines.append(f"# TYPE vllm:{name.removesuffix('_total')} {kind}")
            lines.append(f"vllm:{name}{labels} {float(value)}")
        return "\n".join(lines) + "\n"


def _error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
