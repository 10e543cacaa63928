"""`python -m loadtests.calibrate`: fit the engine simulator to a real vLLM, and show the fit.

Starts vLLM's own server with a Floodgate replica's flags (or takes the one at --url), measures
it at several concurrencies and prompt lengths, fits the cost of its steps, writes a profile,
and puts the simulator with that profile under the same load: measured beside simulated.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from loadtests.benches.bare_vllm import SLOTS, cpu_flags, start_vllm
from loadtests.benches.calibration import Fit, Observation, fit, observe
from loadtests.benches.calibration_tables import comparison_table, write_result
from loadtests.clients import http_probe
from loadtests.clients.chat_client import prompts, run_chats
from loadtests.engine_simulator.generation_request import BYTES_PER_TOKEN, TOKENS_PER_MESSAGE
from loadtests.engine_simulator.profile import PROFILES, EngineProfile
from loadtests.errors import BenchError, MeasurementError
from loadtests.probes.machine import read_machine
from loadtests.results.report import add_results_option
from loadtests.settings import BenchSettings
from loadtests.stack.simulator_process import SimulatorProcess

DEFAULT_MODEL = "smollm2-135m-instruct"
# vLLM's default on processors; the log and /metrics do not tell it of a running server.
STEP_TOKENS_MAX = 2048


@dataclass(frozen=True)
class Load:
    """One run: chats at a time, chats in all, words of each prompt, tokens of each answer."""

    concurrency: int
    chats: int
    words: int
    output_tokens: int


LOADS = (
    Load(1, 3, 24, 48),
    Load(4, 8, 24, 48),
    Load(8, 16, 24, 48),
    Load(16, 32, 24, 48),
    Load(32, 64, 24, 48),
    Load(1, 3, 200, 8),
    Load(1, 3, 600, 8),
    Load(8, 16, 200, 32),
)


def main() -> int:
    """Read the command line, measure, fit, compare; 0, or 1 with a message."""
    options = read_options()
    try:
        calibrate(options, BenchSettings())
    except BenchError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 1
    return 0


def read_options() -> argparse.Namespace:
    """The command line's choices."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.calibrate", description=__doc__)
    parser.add_argument("--url", help="a vLLM server that runs already, without /v1")
    parser.add_argument(
        "--model", type=Path, help="model folder to start (default: Floodgate's own)"
    )
    parser.add_argument("--name", default="smollm2-135m-cpu", help="name of the profile")
    parser.add_argument(
        "--step-tokens-max",
        type=int,
        default=STEP_TOKENS_MAX,
        help=f"the server's max_num_batched_tokens (default {STEP_TOKENS_MAX})",
    )
    parser.add_argument("--sequences-max", type=int, default=SLOTS, help="its max_num_seqs")
    add_results_option(parser)
    return parser.parse_args()


def calibrate(options: argparse.Namespace, settings: BenchSettings) -> None:
    """Measure, fit, write the profile, compare.

    Raises:
        BenchError: the server did not start, or answered badly.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="floodgate-calibrate-") as name:
        folder = Path(name)
        with engine_url(options, settings, folder) as url:
            card = http_probe.call("GET", f"{url}/v1/models").json()["data"][0]
            cache = read_cache(http_probe.call("GET", f"{url}/metrics").body.decode())
            measured = [measure(url, card["id"], load, seed) for seed, load in enumerate(LOADS)]
        found = fit(measured)
        profile = profile_of(found, options, card["max_model_len"], cache)
        path = PROFILES / f"{options.name}.json"
        path.write_text(profile.model_dump_json(indent=2) + "\n")
        with SimulatorProcess(folder, profile=str(path)) as simulator:
            simulated = [
                simulate(simulator.urls[0], load, one)
                for load, one in zip(LOADS, measured, strict=True)
            ]
    comparison_table(measured, simulated, found).print(console)
    console.print(f"profile: {path}", highlight=False)
    write_result(options.results, measured, simulated, found)


@contextmanager
def engine_url(options: argparse.Namespace, settings: BenchSettings, folder: Path) -> Iterator[str]:
    """The server to measure: the one at --url, or one of our own for as long as it is needed."""
    if options.url:
        yield options.url
        return
    model = options.model or settings.cache_folder / "models" / DEFAULT_MODEL
    if not (model / "config.json").is_file():
        raise BenchError(f"no model in {model}; `make up` fetches the default one")
    target = start_vllm(
        str(model),
        model.name,
        settings.home,
        folder,
        context_tokens_max=8192,
        flags=cpu_flags(is_eager=True),
    )
    with target.process:
        yield target.url


def measure(url: str, model: str, load: Load, seed: int) -> Observation:
    """One load on the real engine, after one chat that is not counted."""
    for count, is_counted in ((1, False), (load.chats, True)):
        texts = prompts(count, seed=100 * seed + is_counted, words=load.words)
        chats = run_chats(
            f"{url}/v1/chat/completions",
            model=model,
            headers={},
            texts=texts,
            concurrency=min(load.concurrency, count),
            output_tokens=load.output_tokens,
        )
    return observe(chats, load.output_tokens)


def simulate(url: str, load: Load, measured: Observation) -> Observation:
    """The same load on the simulator, with prompts that it counts as long as the real ones."""
    text = "x" * (BYTES_PER_TOKEN * (round(measured.prompt_tokens) - TOKENS_PER_MESSAGE))
    chats = run_chats(
        f"{url}/v1/chat/completions",
        model="simulated",
        headers={},
        texts=[text] * load.chats,
        concurrency=load.concurrency,
        output_tokens=load.output_tokens,
    )
    return observe(chats, load.output_tokens)


def read_cache(metrics: str) -> tuple[int, int]:
    """Blocks of the KV cache, and tokens of a block, from vLLM's /metrics.

    Raises:
        MeasurementError: it does not tell.
    """
    line = next(
        (line for line in metrics.splitlines() if line.startswith("vllm:cache_config_info{")), ""
    )
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
    try:
        return int(labels["num_gpu_blocks"]), int(labels["block_size"])
    except (KeyError, ValueError) as error:
        raise MeasurementError(f"no blocks in vllm:cache_config_info: {line!r}") from error


def profile_of(
    found: Fit, options: argparse.Namespace, context_tokens_max: int, cache: tuple[int, int]
) -> EngineProfile:
    """The fitted profile, with where it comes from."""
    return EngineProfile(
        name=options.name,
        source=f"Fitted by `python -m loadtests.calibrate` on {datetime.now(UTC):%Y-%m-%d}: "
        f"{read_machine().in_words()}; mean error of the fit {found.error_mean:.1%}, "
        f"largest {found.error_max:.1%}.",
        step_base_s=round(found.step_base_s, 6),
        step_sequence_s=round(found.step_sequence_s, 7),
        step_prefill_token_s=round(found.step_prefill_token_s, 8),
        request_s=round(found.request_s, 6),
        sequences_max=options.sequences_max,
        step_tokens_max=options.step_tokens_max,
        kv_tokens=cache[0] * cache[1],
        block_tokens=cache[1],
        context_tokens_max=context_tokens_max,
    )


if __name__ == "__main__":
    sys.exit(main())
