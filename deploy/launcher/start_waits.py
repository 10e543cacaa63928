"""What a start waits for: the engine, then the gateway. A process that ends meanwhile ends it."""

import time

from deploy import gateway_client
from deploy.errors import ProcessFailed
from deploy.launcher.phase_file import PhaseReader
from deploy.launcher.phases import Phases
from deploy.launcher.run_plan import RunPlan
from deploy.launcher.stop_signal import StopSignal
from deploy.launcher.supervisor import Supervisor, describe_exit

_POLL_S = 0.1
_GATEWAY_READY_S_MAX = 60.0


class StartWaits:
    """Every wait raises ProcessFailed when a process ended, StopRequested when it shall stop."""

    def __init__(
        self, supervisor: Supervisor, serving: PhaseReader, phases: Phases, stop: StopSignal
    ) -> None:
        self._supervisor = supervisor
        self._serving = serving
        self._phases = phases
        self._stop = stop

    def for_engine(self, names: str) -> None:
        """Until serving says that the models of these names are ready; it has its own deadline."""
        with self._phases.phase(f"Engine with {names}"):
            doing = "starting"
            while True:
                for doing in self._serving.read():
                    self._phases.note(doing)
                self._check_children()
                if doing.endswith("ready"):
                    return
                self._phases.tick(doing)
                self._stop.wait(_POLL_S)

    def for_gateway(self, plan: RunPlan) -> None:
        """Until the gateway takes requests; ProcessFailed when that takes over a minute."""
        report: dict[str, object] = {}
        with self._phases.phase("Gateway"):
            give_up_at = time.monotonic() + _GATEWAY_READY_S_MAX
            while time.monotonic() < give_up_at:
                ready, report = gateway_client.read_readiness(plan.local_host, plan.settings.port)
                if ready:
                    return
                self._check_children()
                self._phases.tick()
                self._stop.wait(_POLL_S)
        raise ProcessFailed(
            f"The gateway was not ready within {_GATEWAY_READY_S_MAX:.0f} s: "
            f"{report or 'no answer'}.",
            f"See {plan.home.logs / 'gateway.log'}.",
        )

    def _check_children(self) -> None:
        """Raises ProcessFailed when a process ended while it should still be starting."""
        for name, runs in self._supervisor.running().items():
            if runs:
                continue
            child = self._supervisor.child(name)
            list(self._serving.read())
            why = self._serving.error if name == "serving" else ""
            ended = describe_exit(child.exit_status() or 0)
            raise ProcessFailed(
                f"{name} {ended}: {why or child.log_tail(5)}", f"See {child.plan.log_path}."
            )
