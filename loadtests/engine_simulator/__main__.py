"""A fake engine for load tests: OpenAI's API with vLLM's timing and no model behind it.

Each step takes a + b x sequences + c x prompt tokens, from a profile that was fitted to a real
engine (python -m loadtests.calibrate). Replicas listen on loopback ports of their own. The first
line on standard output is JSON: {"admin_url": ..., "replicas": [{"replica_id", "url"}, ...]}.

POST /faults on the admin port, for example {"kind": "stall", "replicas": [0], "duration_s": 5};
kinds: stall, slow (factor), error (share), cut (share, after_tokens), crash, restore, clear.
GET /stats tells counts and load of each replica.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import signal
import sys

import uvloop

from loadtests.engine_simulator.admin import AdminPort
from loadtests.engine_simulator.http_connection import HttpConnection
from loadtests.engine_simulator.profile import EngineProfile, load_profile
from loadtests.engine_simulator.records import RecordPublisher
from loadtests.engine_simulator.replica import Replica
from loadtests.errors import BenchError

REPLICAS_MAX = 64


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.engine_simulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--replicas", type=int, default=1, help=f"1 to {REPLICAS_MAX} (default 1)")
    parser.add_argument(
        "--port", type=int, default=0, help="first replica's port, the next ones follow; 0: any"
    )
    parser.add_argument("--admin-port", type=int, default=0, help="0: any")
    parser.add_argument("--model", default="simulated", help="name of the model served")
    parser.add_argument(
        "--profile",
        default="smollm2-135m-cpu",
        help="name of a profile in loadtests/profiles, or a JSON file",
    )
    parser.add_argument("--slots", type=int, help="slots to publish (default: the batch limit)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="how many times faster than the profile says"
    )
    parser.add_argument(
        "--answer-tokens-mean",
        type=float,
        default=200.0,
        help="mean length of answers that end by themselves (log-normal)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--flow-url", help="flow Redis to publish replica records to, once a second"
    )
    options = parser.parse_args()
    if not 1 <= options.replicas <= REPLICAS_MAX:
        parser.error(f"--replicas must lie in 1..{REPLICAS_MAX}")
    if options.speed <= 0 or options.answer_tokens_mean < 1:
        parser.error("--speed must be above 0 and --answer-tokens-mean at least 1")
    if options.slots is not None and options.slots < 1:
        parser.error("--slots must be at least 1")
    return options


async def serve(options: argparse.Namespace, profile: EngineProfile) -> None:
    """Run until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    replicas = [
        Replica(
            index,
            profile,
            model=options.model,
            slots=options.slots or profile.sequences_max,
            speed=options.speed,
            answer_tokens_mean=options.answer_tokens_mean,
            seed=options.seed,
            clock=loop.time,
        )
        for index in range(options.replicas)
    ]
    for replica in replicas:
        await replica.start(options.port + replica.index if options.port else 0)
    admin = AdminPort(replicas, speed=options.speed)
    admin_server = await loop.create_server(
        lambda: HttpConnection(admin, set()), "127.0.0.1", options.admin_port
    )
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        if options.flow_url:
            publisher = RecordPublisher(options.flow_url, replicas)
            stack.push_async_callback(publisher.close)
            publishing = asyncio.create_task(publisher.run())
            stack.callback(publishing.cancel)
        admin_port = admin_server.sockets[0].getsockname()[1]
        print(
            json.dumps(
                {
                    "admin_url": f"http://127.0.0.1:{admin_port}",
                    "replicas": [
                        {"replica_id": replica.replica_id, "url": replica.url}
                        for replica in replicas
                    ],
                }
            ),
            flush=True,
        )
        await stopped.wait()
    for replica in replicas:
        replica.crash()


def main() -> int:
    """Read the command line, serve; 0, or 1 with a message on standard error."""
    options = read_options()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # A collection over thousands of open answers would show up as the engine's latency.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        uvloop.run(serve(options, load_profile(options.profile)))
    except (BenchError, OSError) as error:
        print(f"engine simulator: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
