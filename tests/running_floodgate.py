"""`floodgate up` as users run it, with what tests ask of it: keys, replicas, vLLM's own metrics."""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import redis

from deploy.launcher import marked_processes
from gateway.engines.replica_record import Replica, parse_record
from gateway.flow import redis_keys
from tests import failed_start
from tests.free_ports import free_port

MODEL = "smollm2-135m-instruct"
# What the shared Floodgate's engine computes at once: small, so that tests can queue and chunk.
STEP_TOKENS_MAX = 256
RUNNING_MAX = 4
# A cold start converts the model and fills caches; a warm one takes about a minute.
_START_S_MAX = 600.0
# It took 28 s beside a load of twelve.
_STOP_S_MAX = 120.0
# Far longer than a replica that runs is silent.
_REPLICA_S_MAX = 60.0


class RunningFloodgate:
    """One `floodgate up` with a home of its own; the model is shared through the cache folder."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {"home": home, "cache": shared_cache(), "port": self.port, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLOODGATE_")}
        return {**kept, **{f"FLOODGATE_{k.upper()}": str(v) for k, v in self._settings.items()}}

    @property
    def output(self) -> str:
        return (self.home / "up.out").read_text(errors="replace")

    @property
    def launcher(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "run" / "state.json").read_text())
        return found

    @property
    def engine_secret(self) -> str:
        """As the gateway has it; it is written nowhere."""
        (gateway,) = (p for p in self.state["processes"] if p["name"] == "gateway")
        return psutil.Process(gateway["pid"]).environ()["FLOODGATE_ENGINE_SECRET"]

    def processes(self) -> list[psutil.Process]:
        """Every process of this run, whoever its parent is by now."""
        return marked_processes.find(marked_processes.of_run(self.state["mark"]))

    def begin(self) -> None:
        """Starts the launcher without waiting for it."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "up.out").open("wb") as output:
            self._process = subprocess.Popen(
                [floodgate(), "up"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> None:
        """Starts the launcher and waits until it has held its first chat."""
        self.begin()
        assert self._process is not None
        deadline = time.monotonic() + _START_S_MAX
        while "First token after" not in self.output:
            ended = self._process.poll()
            assert ended is None, f"`floodgate up` ended: {ended}\n{failed_start.told(self.home)}"
            late = time.monotonic() > deadline
            assert not late, f"`floodgate up` is not done\n{failed_start.told(self.home)}"
            time.sleep(0.1)

    def stop(self) -> None:
        """As Ctrl-C does it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self.wait()

    def wait(self) -> None:
        """Until the launcher has stopped, as it has been told to."""
        assert self._process is not None
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.run("down")
            raise

    @contextmanager
    def started(self) -> Iterator[Self]:
        """From its first chat until it is stopped, also when the start failed."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def run(self, *arguments: str) -> str:
        """What a `floodgate` command prints; fails with its words when it fails."""
        done = subprocess.run(
            [floodgate(), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"floodgate {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def new_key(self) -> str:
        """A key, by way of a code that the command made and the gate redeemed."""
        made = json.loads(self.run("invites", "create", "--count", "1", "--json"))
        code = re.search(r"fgi-[0-9A-Za-z-]+", json.dumps(made))
        assert code is not None
        address = f"{secrets.token_hex(8)}@example.com"
        answer = httpx.post(
            f"{self.url}/invites/redeem", json={"code": code.group(), "email": address}, timeout=30
        )
        assert answer.status_code == 201, answer.text
        key: str = answer.json()["api_key"]
        return key

    @asynccontextmanager
    async def client(self, *, timeout_s: float = 400) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the gateway, with a new key."""
        key = await asyncio.to_thread(self.new_key)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=timeout_s
        ) as client:
            yield client

    def replicas(self, model: str = MODEL) -> list[Replica]:
        """The replicas as they publish themselves."""
        return published_replicas(self.state["flow_url"], model)

    def first_replica(self) -> Replica:
        """Waits while none is published, as when its record expired on a busy machine."""
        deadline = time.monotonic() + _REPLICA_S_MAX
        while not (found := self.replicas()):
            assert time.monotonic() < deadline, "no replica is published"
            time.sleep(0.1)
        return found[0]

    def engine_get(self, path: str, replica: Replica | None = None) -> httpx.Response:
        """Asks a replica directly, with the secret; the first one where none is named."""
        headers = {"x-floodgate-engine-secret": self.engine_secret}
        url = (replica or self.first_replica()).url
        return httpx.get(url + path, headers=headers, timeout=30)

    def engine_metric(self, name: str, replica: Replica | None = None) -> float:
        """The sum of one of vLLM's own metrics at one replica."""
        text = self.engine_get("/metrics", replica).text
        lines = [line for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line)]
        assert lines, f"vLLM has no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def until_engine(self, *, running: int, waiting: int = 0, within_s: float = 30) -> None:
        """Waits until vLLM's own counts are these."""
        deadline = time.monotonic() + within_s
        while True:
            counts = (
                self.engine_metric("vllm:num_requests_running"),
                self.engine_metric("vllm:num_requests_waiting"),
            )
            if counts == (running, waiting):
                return
            assert time.monotonic() < deadline, f"vLLM counts {counts}, not {(running, waiting)}"
            await asyncio.sleep(0.05)


def published_replicas(flow_url: str, model: str = MODEL) -> list[Replica]:
    """The replicas of a model as they publish themselves there."""
    with redis.Redis.from_url(flow_url, decode_responses=True) as client:
        names = client.zrange(redis_keys.replica_index(model), 0, -1)
        texts = [client.get(redis_keys.replica_record_prefix(model) + name) for name in names]
    return [found for text in texts if text and (found := parse_record(text))]


def floodgate() -> str:
    """The command that belongs to the Python that runs the tests."""
    return str(Path(sys.executable).with_name("floodgate"))


def shared_cache() -> str:
    """Where the converted model is kept between runs."""
    home = os.environ.get("FLOODGATE_HOME", "~/.floodgate")
    return str(Path(os.environ.get("FLOODGATE_CACHE", home)).expanduser())
