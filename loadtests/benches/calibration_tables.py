"""A real vLLM and the simulator fitted to it, side by side: as a table, as a result file."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from loadtests.benches.calibration import Fit, Observation
from loadtests.percentiles import median
from loadtests.probes.machine import read_machine
from loadtests.results.report import Table


def comparison_table(
    measured: list[Observation], simulated: list[Observation], found: Fit
) -> Table:
    """Measured beside simulated, a row a run."""
    rows = []
    errors: list[float] = []
    for real, fake in zip(measured, simulated, strict=True):
        error = fake.tokens_per_s / real.tokens_per_s - 1
        errors.append(abs(error))
        rows.append(
            (
                str(real.concurrency),
                f"{real.prompt_tokens:.0f} / {real.output_tokens}",
                f"{real.ttft_s * 1e3:.0f} / {fake.ttft_s * 1e3:.0f}",
                f"{real.itl_s * 1e3:.1f} / {fake.itl_s * 1e3:.1f}",
                f"{real.tokens_per_s:.0f} / {fake.tokens_per_s:.0f}",
                f"{error:+.1%}",
            )
        )
    return Table(
        "vLLM measured / simulator with the fitted profile, means of a run",
        ("chats at once", "prompt / output", "TTFT (ms)", "ITL (ms)", "tokens/s", "error"),
        rows,
        notes=(
            f"a step: {found.step_base_s * 1e3:.2f} ms + {found.step_sequence_s * 1e3:.3f} ms a "
            f"sequence + {found.step_prefill_token_s * 1e3:.4f} ms a prompt token; "
            f"{found.request_s * 1e3:.2f} ms a request outside of steps",
            f"equations: mean error {found.error_mean:.1%}, largest {found.error_max:.1%}; "
            f"tokens/s of the simulator: median error {median(errors):.1%}, "
            f"largest {max(errors):.1%}",
        ),
    )


def write_result(
    folder: Path,
    measured: list[Observation],
    simulated: list[Observation],
    found: Fit,
) -> None:
    """The figures as a result file beside those of the benches."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"calibrate-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    content = {
        "machine": asdict(read_machine()),
        "fit": asdict(found),
        "measured": [asdict(one) for one in measured],
        "simulated": [asdict(one) for one in simulated],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
