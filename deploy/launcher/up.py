"""`floodgate up`: everything on one machine, started in order, kept alive, and stopped in order."""

import os
import secrets
import subprocess
import time
from datetime import UTC, datetime

from rich.console import Console

from deploy import gateway_client
from deploy.directory_access import with_directory
from deploy.launcher import marked_processes, model
from deploy.launcher.child import python_argv, python_environ
from deploy.launcher.ledger_disk import LedgerDisk
from deploy.launcher.phase_file import PhaseReader
from deploy.launcher.phases import Phases
from deploy.launcher.redis_processes import start_redis
from deploy.launcher.run_lock import hold_run_lock
from deploy.launcher.run_plan import RunPlan, check_engine_memory
from deploy.launcher.start_waits import StartWaits
from deploy.launcher.stop_signal import StopRequested, StopSignal, stop_signals
from deploy.launcher.supervisor import Supervisor
from deploy.launcher.welcome import print_welcome
from deploy.machine import has_gpu
from deploy.ports import check_port
from deploy.run_state import RunState, drop_state, write_state
from deploy.settings import LaunchSettings
from deploy.setup.main import STARTED_AT

_WATCH_S = 0.5
_LEFT_OVER_GRACE_S = 1.5
_WATCHDOG_S_MAX = 12.0
# Long enough for a first day, short enough that the codes of many starts do not pile up.
_CODE_LIFE_S = 7 * 86_400
_PLAN = "free"
# A set-up that had to install something takes longer than this.
_WARM_SETUP_S_MAX = 5.0


def up(settings: LaunchSettings, console: Console) -> None:
    """Runs until a signal ends it. Raises DeployError when something cannot start."""
    plan = RunPlan.new(settings)
    with hold_run_lock(plan.home), stop_signals() as stop:
        # Of a run whose launcher and watchdog were both killed.
        chosen = marked_processes.of_home(str(plan.home.root))
        marked_processes.end(chosen, grace_s=_LEFT_OVER_GRACE_S)
        check_port(settings.host, settings.port)
        launcher = Launcher(plan, Phases(console), stop)
        try:
            launcher.start(console)
            launcher.watch()
        except StopRequested:
            console.print("Stopping.")
        finally:
            launcher.stop()
        console.print("Stopped; nothing is left running.")


class Launcher:
    """One run. `start`, `watch` until StopRequested, and `stop` in any case."""

    def __init__(self, plan: RunPlan, phases: Phases, stop: StopSignal) -> None:
        self._plan = plan
        self._phases = phases
        self._stop = stop
        self._supervisor = Supervisor(phases.warn)
        self._serving_phases = PhaseReader(plan.home.run / "phases.jsonl")
        self._waits = StartWaits(self._supervisor, self._serving_phases, phases, stop)
        self._watchdog = self._start_watchdog()
        self._begun_at = float(os.environ.get(STARTED_AT) or time.monotonic())
        self._started_at = datetime.now(UTC)
        self._urls = ("", "")
        self._ledger_disk: LedgerDisk | None = None
        self._model = ""
        self._names = ""

    def start(self, console: Console) -> None:
        """Starts everything and asks for the first token."""
        setup_s = time.monotonic() - self._begun_at
        self._note_state("starting")
        model_is_new = self._prepare_model()
        self._start_redis()
        ledger_url, flow_url = self._urls
        gateway = self._plan.gateway_settings(ledger_url, flow_url)
        if not gateway.upstream_url:
            self._start_serving()
        self._supervisor.start(self._plan.gateway_child(ledger_url, flow_url))
        self._note_state("starting")
        if not gateway.upstream_url:
            self._waits.for_engine(self._names)
        self._waits.for_gateway(self._plan)
        first, codes = self._ask_first()
        first_token_s = first.first_token_at - self._begun_at
        self._note_state("running")
        warm = not model_is_new and setup_s < _WARM_SETUP_S_MAX
        console.print(
            f"First token after {first_token_s:.1f} s "
            f"({'warm' if warm else 'cold'} start; {setup_s:.1f} s of it set-up).",
            highlight=False,
        )
        print_welcome(
            console,
            url=self._plan.url,
            model=self._model,
            sample=first.sample,
            codes=codes,
            tag=secrets.token_hex(3),
        )

    def watch(self) -> None:
        """Keeps everything alive until StopRequested."""
        while True:
            self._stop.wait(_WATCH_S)
            changed = self._supervisor.check()
            if self._ledger_disk is not None:
                self._ledger_disk.check()
            if self._watchdog.poll() is not None:
                self._watchdog = self._start_watchdog()
            for line in self._serving_phases.read():
                self._phases.note(f"serving: {line}")
            if changed:
                self._note_state("running")

    def stop(self) -> None:
        """Stops everything in order, then whatever else carries this run's mark."""
        self._note_state("stopping")
        chosen = marked_processes.of_run(self._plan.mark)
        seen = marked_processes.find(chosen)
        for name in ("gateway", "serving", "redis-flow", "redis-ledger"):
            self._supervisor.stop(name)
        marked_processes.end(chosen, grace_s=_LEFT_OVER_GRACE_S, seen=seen)
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        try:
            self._watchdog.wait(_WATCHDOG_S_MAX)
        except subprocess.TimeoutExpired:
            self._watchdog.kill()
            self._watchdog.wait()
        for path in self._plan.home.run.glob("redis-*.conf"):
            path.unlink()
        drop_state(self._plan.home)

    def _prepare_model(self) -> bool:
        """Settles which model is served; True when the default model had to be made."""
        self._model = self._plan.settings.model
        others = ("FLOODGATE_MODELS_FILE", "FLOODGATE_UPSTREAM_URL")
        if self._model or any(os.environ.get(name) for name in others):
            return False
        folder = model.default_model(self._plan.home)
        ready = model.is_ready(folder)
        if not ready:
            with self._phases.phase("Default model"):
                model.prepare(self._plan.home, self._stop, self._phases.tick)
        self._model = str(folder)
        return not ready

    def _start_redis(self) -> None:
        with self._phases.phase("Redis, ledger and flow"):
            plans = [
                start_redis(role, self._plan.home, self._plan.environ, self._supervisor, self._stop)
                for role in ("ledger", "flow")
            ]
            self._urls = (plans[0].url, plans[1].url)
        self._ledger_disk = LedgerDisk(
            self._plan.home.ledger,
            plans[0].url,
            free_bytes_min=self._plan.settings.ledger_free_bytes_min,
            on_event=self._phases.warn,
        )
        self._ledger_disk.check()

    def _start_serving(self) -> None:
        flow_url = self._urls[1]
        models = self._plan.models(flow_url, self._model)
        if self._plan.settings.check_memory:
            kind = models[0].accelerator
            check_engine_memory(models, on_gpu=kind == "gpu" or (kind == "auto" and has_gpu()))
        child = self._plan.serving_child(
            flow_url, self._model, self._plan.home.run / "phases.jsonl"
        )
        self._supervisor.start(child)
        self._model = models[0].served_name
        self._names = ", ".join(each.served_name for each in models)

    def _ask_first(self) -> tuple[gateway_client.FirstAnswer, tuple[str, str]]:
        """The first answer, with a key that is revoked right away; and two codes for people."""
        host, port = self._plan.local_host, self._plan.settings.port
        tag = secrets.token_hex(4)
        with self._phases.phase("First token"):
            own_code, *codes = self._new_codes(3)
            address = f"launcher+{tag}@example.com"
            api_key, key_id = gateway_client.redeem(host, port, own_code, address)
            try:
                name = self._model or gateway_client.read_first_model(host, port, api_key)
                self._model = name
                first = gateway_client.ask_first(host, port, name, api_key)
            finally:
                with_directory(self._urls, lambda d: d.revoke_key(key_id), actor="launcher")
        return first, (codes[0], codes[1])

    def _new_codes(self, count: int) -> list[str]:
        invites = with_directory(
            self._urls,
            lambda directory: directory.create_invites(count, _PLAN, expires_in_s=_CODE_LIFE_S),
            actor="launcher",
        )
        return [invite.code for invite in invites]

    def _note_state(self, phase: str) -> None:
        state = RunState.model_validate(
            {
                "mark": self._plan.mark,
                "launcher_pid": os.getpid(),
                "started_at": self._started_at,
                "phase": phase,
                "url": self._plan.url,
                "model": self._model,
                "ledger_url": self._urls[0],
                "flow_url": self._urls[1],
                "stop_s_max": self._plan.stop_s_max,
                "processes": self._supervisor.states(),
            }
        )
        write_state(self._plan.home, state)

    def _start_watchdog(self) -> subprocess.Popen[bytes]:
        environ = python_environ(os.environ)
        environ.pop(marked_processes.MARK, None)  # it must not end itself
        return subprocess.Popen(
            python_argv("deploy.launcher.watchdog", self._plan.mark, str(self._plan.home.state)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
            cwd="/",
        )
