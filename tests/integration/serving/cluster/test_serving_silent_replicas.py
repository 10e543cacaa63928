"""Replicas that fall silent: who is killed, and who is left alone."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psutil
import pytest
from redis.exceptions import RedisError

from serving.cluster.silent_replicas import SILENT_S_MAX, SilentReplicas
from serving.flow.record import EngineLoad, ReplicaFacts, record_json
from serving.flow.record_store import RecordStore
from serving.settings import ServingSettings
from tests.free_ports import free_port
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

# Answers every path as a replica answers for its state.
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("up", flush=True)
server.serve_forever()
"""


@dataclass
class Looks:
    """One look a second, by a clock of its own."""

    replicas: SilentReplicas
    now: list[float]

    def take(self, count: int) -> None:
        for _ in range(count):
            self.now[0] += 1.0
            self.replicas.end()


@dataclass
class Published:
    process: psutil.Process
    store: RecordStore
    record: str

    def stop(self) -> None:
        """As a replica that hangs as a whole: neither records nor answers come from it."""
        self.process.send_signal(signal.SIGSTOP)
        self.store.remove()

    @property
    def lives(self) -> bool:
        return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def looks(flow_server: RedisServer, port: int) -> Looks:
    settings = ServingSettings(
        flow_url=flow_server.url,
        engine_secret="0123456789abcdef",
        model="/models/m",
        replica_port_min=max(port - 500, 1024),
    )
    now = [1000.0]
    return Looks(SilentReplicas(settings, clock=lambda: now[0]), now)


@pytest.fixture
def start(flow_server: RedisServer, port: int) -> Iterator[Callable[[str], Published]]:
    """Starts a replica at the port and publishes it."""
    with ExitStack() as stack:

        def make(replica_id: str) -> Published:
            child = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE
            )
            stack.callback(child.wait)
            stack.callback(child.kill)
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            child.stdout.close()
            store = RecordStore(flow_server.url, model="m", replica_id=replica_id)
            stack.callback(store.close)
            facts = ReplicaFacts("m", replica_id, context_tokens_max=4096, endpoints=())
            record = record_json(
                facts,
                url=f"http://127.0.0.1:{port}",
                state="running",
                slots=4,
                load=EngineLoad(),
                published_at_ms=0,
            )
            store.write(record)
            return Published(psutil.Process(child.pid), store, record)

        yield make


WHOLE_SILENCE = int(SILENT_S_MAX) + 1


def test_one_that_hangs_is_killed_once_it_was_silent_for_long_enough(
    looks: Looks, start: Callable[[str], Published]
) -> None:
    replica = start("hangs")
    looks.take(1)
    replica.stop()
    looks.take(WHOLE_SILENCE - 1)
    assert replica.lives
    looks.take(1)
    replica.process.wait(timeout=30)


def test_one_whose_process_was_not_found_at_the_first_look_is_looked_for_again(
    looks: Looks, start: Callable[[str], Published]
) -> None:
    replica = start("hides")
    replica.process.kill()
    replica.process.wait(timeout=30)
    looks.take(1)  # its record is there, and nobody listens
    replica = start("hides")
    looks.take(1)
    replica.stop()
    looks.take(WHOLE_SILENCE)
    replica.process.wait(timeout=30)


def test_one_that_answers_is_left_alone_though_its_records_do_not_come(
    looks: Looks, start: Callable[[str], Published]
) -> None:
    replica = start("cannot publish")
    looks.take(1)
    replica.store.remove()
    looks.take(WHOLE_SILENCE + 5)
    assert replica.lives
    replica.process.send_signal(signal.SIGSTOP)  # and is not forgotten
    looks.take(1)
    replica.process.wait(timeout=30)


def test_an_outage_of_the_flow_redis_makes_nobody_silent(
    looks: Looks, start: Callable[[str], Published], flow_server: RedisServer
) -> None:
    replica = start("waits for flow")
    looks.take(1)
    flow_server.kill()
    looks.take(3 * WHOLE_SILENCE)
    flow_server.start()  # and is empty until the next record
    replica.process.send_signal(signal.SIGSTOP)  # the look must not depend on its answer
    looks.take(WHOLE_SILENCE - 5)
    assert replica.lives
    replica.process.send_signal(signal.SIGCONT)
    while True:  # the first call on a connection that Redis's end has cut fails
        with suppress(RedisError):
            replica.store.write(replica.record)
            break
        time.sleep(0.01)
    looks.take(1)
    assert replica.lives


def test_whoever_got_the_port_of_one_that_has_ended_is_left_alone(
    looks: Looks, start: Callable[[str], Published]
) -> None:
    """A model went to sleep, and a replica of another one starts at its port: it answers nobody."""
    first = start("ends")
    looks.take(1)
    first.store.remove()
    first.process.kill()
    first.process.wait(timeout=30)
    another = start("of another model")
    another.stop()
    looks.take(WHOLE_SILENCE + 5)
    assert another.lives
