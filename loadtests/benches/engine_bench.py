"""The whole path against vLLM's own server: what Floodgate costs in tokens/s and first tokens.

Both run the same model with the same flags and threads. On a processor both stay loaded, rounds
alternate, and whoever is not measured is paused: an idle Ray keeps 0.12 of a core busy, which on
two cores is as much as the difference that is looked for. On a GPU either takes most of its memory,
so one is measured after the other.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from loadtests.benches.bare_vllm import CPU_STEP_FLAGS, cpu_flags, gpu_flags, start_bare_vllm
from loadtests.benches.engine_plan import Answers, EnginePlan
from loadtests.benches.engine_tables import tables
from loadtests.benches.standing_line import (
    batched_requests,
    looks_at_line,
    looks_at_vllm,
    standing_line,
)
from loadtests.benches.whole_path import WholePath, start_whole_path
from loadtests.clients import http_probe
from loadtests.clients.chat_client import prompts, run_chats
from loadtests.errors import MeasurementError, ProcessFailedError
from loadtests.probes.machine import load_average
from loadtests.process import cores_busy, require_tools
from loadtests.results.report import Recorder, Table
from loadtests.settings import BenchSettings
from loadtests.stack.target import Target

RESUME_S_MAX = 60.0
RESUME_POLL_S = 0.5
# An idle Floodgate keeps 0.09 to 0.13 of a core busy.
SETTLED_CORES_MAX = 0.25
SETTLE_LOOK_S = 2.0


def run_engine_bench(plan: EnginePlan, settings: BenchSettings, recorder: Recorder) -> list[Table]:
    """Start both, measure them, stop both; the tables of what was found."""
    require_tools("redis-server", "setpriv")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floodgate-bench-")))
        home = settings.home / "bench" / "whole-path"
        whole = start_whole_path(plan.model, home, settings.cache_folder, folder)
        stack.enter_context(whole.target.process)
        recorder.fact("start", asdict(whole.start))
        recorder.fact("engine_settings", whole.engine_settings)
        if whole.engine_settings["device_config"] == "cuda":
            measure_one_after_the_other(whole, plan, recorder, home, folder)
        else:
            measure_side_by_side(whole, plan, recorder, home, folder)
    return tables(recorder)


def measure_side_by_side(
    whole: WholePath, plan: EnginePlan, recorder: Recorder, home: Path, folder: Path
) -> None:
    """Rounds in turn, with both loaded."""
    model_name = first_model(whole.target)
    flags = [*cpu_flags(is_eager=whole.is_eager), *CPU_STEP_FLAGS]
    bare = start_bare_vllm(whole.engine_settings, flags, model_name, home, folder)
    with bare.process:
        pair = (bare, whole.target)
        recorder.fact("targets", [target.name for target in pair])
        warm_up(pair, model_name, plan)
        recorder.fact("idle_cores_busy", {target.name: idle_cores(target) for target in pair})
        for number in range(plan.rounds):
            measure_round(pair, model_name, plan, number, recorder, home)


def measure_one_after_the_other(
    whole: WholePath, plan: EnginePlan, recorder: Recorder, home: Path, folder: Path
) -> None:
    """All rounds of the whole path, then, in the memory that it has left, all of bare vLLM."""
    slots = batched_requests(home)
    plan = plan.for_gpu(slots)
    model_name = first_model(whole.target)
    recorder.fact("gpu_plan", {"slots": slots, "chats": plan.chats, "standing": plan.standing})
    warm_up((whole.target,), model_name, plan)
    recorder.fact("idle_cores_busy", {whole.target.name: idle_cores(whole.target)})
    for number in range(plan.rounds):
        measure_levels(whole.target, model_name, plan, number, recorder)
        measure_standing_lines(whole.target, model_name, plan, number, recorder, home)
    whole.target.process.stop()
    flags = gpu_flags(slots, os.environ, is_eager=whole.is_eager)
    bare = start_bare_vllm(whole.engine_settings, flags, model_name, home, folder)
    with bare.process:
        recorder.fact("targets", [bare.name, whole.target.name])
        warm_up((bare,), model_name, plan)
        for number in range(plan.rounds):
            measure_levels(bare, model_name, plan, number, recorder)
            measure_standing_lines(bare, model_name, plan, number, recorder)


def first_model(target: Target) -> str:
    """The name of the model that a target serves."""
    answer = http_probe.call("GET", f"{target.url}/v1/models", headers=target.headers)
    return str(answer.json()["data"][0]["id"])


def warm_up(targets: Sequence[Target], model_name: str, plan: EnginePlan) -> None:
    """The first requests of an engine pay for what later ones find ready."""
    for target in targets:
        for concurrency, _ in plan.chats:
            run_chats(
                target.chat_url,
                model=model_name,
                headers=target.headers,
                texts=prompts(concurrency, seed=concurrency),
                concurrency=concurrency,
                output_tokens=plan.output_tokens,
            )


def measure_round(
    pair: tuple[Target, Target],
    model_name: str,
    plan: EnginePlan,
    number: int,
    recorder: Recorder,
    home: Path,
) -> None:
    """Each concurrency and each line on one, then on the other; who goes first alternates."""
    for target in pair if number % 2 == 0 else reversed(pair):
        (other,) = (one for one in pair if one is not target)
        other.process.pause()
        try:
            measure_levels(target, model_name, plan, number, recorder)
            home_looked_at = home if target is pair[1] else None
            measure_standing_lines(target, model_name, plan, number, recorder, home_looked_at)
        finally:
            other.process.resume()
        wait_until_it_chats(other, model_name)


def measure_levels(
    target: Target, model_name: str, plan: EnginePlan, number: int, recorder: Recorder
) -> None:
    """One run at each concurrency; the same prompts for either target."""
    for concurrency, count in plan.chats:
        texts = prompts(count, seed=1000 * (number + 1) + concurrency)
        lengths = [plan.output_tokens] * count
        measure(target, model_name, number, concurrency, texts, lengths, recorder)


def measure(
    target: Target,
    model_name: str,
    number: int,
    concurrency: int,
    texts: list[str],
    output_tokens: list[int],
    recorder: Recorder,
) -> None:
    """One run on one target, recorded."""
    load_before, usage_before = load_average(), target.process.usage()
    load = run_chats(
        target.chat_url,
        model=model_name,
        headers=target.headers,
        texts=texts,
        concurrency=concurrency,
        output_tokens=output_tokens,
    )
    recorder.add(
        target=target.name,
        round=number,
        concurrency=concurrency,
        tokens_per_s=load.tokens_per_s,
        ttft_ms=[chat.ttft_s * 1e3 for chat in load.chats],
        ttft_p50_ms=load.ttft_ms(50),
        ttft_p99_ms=load.ttft_ms(99),
        gap_p50_ms=load.gap_ms(50),
        gap_p99_ms=load.gap_ms(99),
        cores_busy=cores_busy(usage_before, target.process.usage()),
        load_average_before=load_before,
    )


def measure_standing_lines(
    target: Target,
    model_name: str,
    plan: EnginePlan,
    number: int,
    recorder: Recorder,
    home: Path | None = None,
) -> None:
    """Runs with as many in line as there are slots, and what the engine ran meanwhile.

    With a home the gateway's line is looked at, without one vLLM's own.
    """
    concurrency, count = plan.standing
    for answers in Answers:
        seed = 1000 * (number + 1) + concurrency
        texts, lengths = prompts(count, seed), plan.answer_lengths(answers, count, seed)
        with looks_at_line(home) if home else looks_at_vllm(target) as looks:
            measure(target, model_name, number, concurrency, texts, lengths, recorder)
        line = standing_line(looks.taken)
        recorder.runs[-1] |= {"answers": answers, **asdict(line)}


def wait_until_it_chats(target: Target, model_name: str) -> None:
    """A target that was paused finds its way back: leases and records ran out meanwhile.

    Raises:
        ProcessFailedError: it does not.
    """
    give_up_at = time.monotonic() + RESUME_S_MAX
    while True:
        try:
            run_chats(
                target.chat_url,
                model=model_name,
                headers=target.headers,
                texts=prompts(1, seed=round(time.monotonic() * 1e3)),
                concurrency=1,
                output_tokens=2,
            )
        except MeasurementError as error:
            if time.monotonic() > give_up_at:
                raise ProcessFailedError(f"{target.name} does not resume: {error}") from error
            target.process.wait_while_running(RESUME_POLL_S)
        else:
            break
    # Ray catches up on heartbeats and timers: the first chats after a pause waited up to a second.
    while idle_cores(target, SETTLE_LOOK_S) > SETTLED_CORES_MAX:
        if time.monotonic() > give_up_at:
            raise ProcessFailedError(f"{target.name} does not come to rest after a pause")


def idle_cores(target: Target, seconds: float = 5.0) -> float:
    """How many cores a target keeps busy while nobody asks it anything."""
    before = target.process.usage()
    target.process.wait_while_running(seconds)
    return cores_busy(before, target.process.usage())
