"""What is measured beside the gateway in the same run: LiteLLM proxy, vllm-router, a yardstick.

Other people's proxies get a virtual environment each, made once from pinned versions.
"""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from loadtests.clients import canned
from loadtests.clients.http_probe import wait_until_ok
from loadtests.errors import BenchError, ProcessFailedError
from loadtests.process import Process, free_port
from loadtests.stack.target import Target

INSTALL_S_MAX = 900
LITELLM_KEY = "sk-bench-4f7c1d0a9be24c6b8e51"
LITELLM_READY_S_MAX = 180.0
# At some 10 streams/s shared by 32 connections, all 32 end together after 3 s or more.
LITELLM_RUN_S_MIN = 20.0
ROUTER_READY_S_MAX = 60.0
YARDSTICK = "plain ASGI proxy"

LITELLM_CONFIGURATION = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {upstream_url}/v1
      api_key: none
general_settings:
  master_key: {key}
litellm_settings:
  telemetry: false
"""


@dataclass(frozen=True)
class PeerPackage:
    """A package at the version that was measured."""

    name: str
    version: str
    requirement: str
    program: str


LITELLM = PeerPackage("litellm", "1.106.0", "litellm[proxy]==1.106.0", "litellm")
VLLM_ROUTER = PeerPackage("vllm-router", "0.1.17", "vllm-router==0.1.17", "vllm-router")


def install(package: PeerPackage, peers_folder: Path) -> Path:
    """Make the package's environment unless it is there, and return its program.

    Raises:
        BenchError: pip failed; the message ends with its last lines.
    """
    folder = peers_folder / f"{package.name}-{package.version}"
    program = folder / "bin" / package.program
    finished = folder / "installed"
    if finished.exists():
        return program
    print(f"installing {package.requirement} (once) …", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    argv = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    done = subprocess.run(
        [*argv, package.requirement],
        capture_output=True,
        text=True,
        timeout=INSTALL_S_MAX,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise BenchError(f"pip could not install {package.requirement}:\n{tail}")
    finished.touch()
    return program


def start_litellm(program: Path, upstream_url: str, folder: Path, core: int) -> Target:
    """LiteLLM proxy with one worker and a key, in front of the upstream."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "litellm.yaml"
    configuration.write_text(
        LITELLM_CONFIGURATION.format(model=canned.MODEL, upstream_url=upstream_url, key=LITELLM_KEY)
    )
    port = free_port()
    argv = [str(program), "--config", str(configuration), "--num_workers", "1"]
    argv += ["--host", "127.0.0.1", "--port", str(port)]
    process = Process(
        LITELLM.name,
        argv,
        log_path=folder / "litellm.log",
        core=core,
        # Without it LiteLLM fetches its price list at start.
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        cwd=folder,
    )
    target = Target(
        f"{LITELLM.name} {LITELLM.version}",
        f"http://127.0.0.1:{port}",
        process,
        {"Authorization": f"Bearer {LITELLM_KEY}"},
        "key",
        run_s_min=LITELLM_RUN_S_MIN,
    )
    return _once_ready(target, "/health/liveliness", LITELLM_READY_S_MAX)


def start_vllm_router(program: Path, upstream_url: str, folder: Path, core: int) -> Target:
    """vllm-router in front of the upstream."""
    port = free_port()
    argv = [str(program), "--worker-urls", upstream_url, "--policy", "round_robin"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    # Its metrics port is fixed by default, and may be taken.
    argv += ["--prometheus-port", str(free_port())]
    process = Process(
        VLLM_ROUTER.name,
        argv,
        log_path=folder / "vllm-router.log",
        core=core,
    )
    target = Target(
        f"{VLLM_ROUTER.name} {VLLM_ROUTER.version}",
        f"http://127.0.0.1:{port}",
        process,
        checks="none",
    )
    return _once_ready(target, "/health", ROUTER_READY_S_MAX)


def start_yardstick(upstream_url: str, redis_url: str, folder: Path, core: int) -> Target:
    """The plain ASGI proxy of loadtests.stack.plain_asgi."""
    port = free_port()
    argv = [sys.executable, "-m", "loadtests.stack.plain_asgi", "--port", str(port)]
    argv += ["--upstream", upstream_url, "--redis", redis_url]
    process = Process(YARDSTICK, argv, log_path=folder / "plain-asgi.log", core=core)
    target = Target(YARDSTICK, f"http://127.0.0.1:{port}", process, checks="one EVALSHA")
    return _once_ready(target, "/", ROUTER_READY_S_MAX)


def _once_ready(target: Target, path: str, deadline_s: float) -> Target:
    try:
        wait_until_ok(f"{target.url}{path}", target.process, deadline_s)
    except ProcessFailedError:
        target.process.stop()
        raise
    return target
