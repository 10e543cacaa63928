"""Runs the gateway: one supervisor, and worker processes that share the listening socket.

A worker that dies is started anew, and its slots come back when its lease ends. SIGTERM lets
running answers finish for `gateway_drain_s_max`, then ends them in words. SIGHUP replaces each
worker by a new one, whose predecessor may take `replaced_drain_s_max` for its answers.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from gateway.connection.draining import REPLACED_SIGNAL
from gateway.engines.routing import Routing
from gateway.errors import FileUnusable, GatewayError
from gateway.limits.plans import Plans
from gateway.settings import GatewaySettings

_PR_SET_PDEATHSIG = 1
# Connections that wait to be accepted; a spike arrives faster than a worker accepts.
_BACKLOG = 4096

# A caller whose machine or network is gone says no goodbye, and may wait in line for minutes: it is
# noticed within a minute, after 30 s of silence and three probes, or by data that nobody confirms.
# Accepted connections inherit these from the listener, which spares each of them five calls.
_PEER_GONE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)

# A worker that answers no ping for so long is stuck. A busy machine may stop one for ten seconds.
_STUCK_S_MAX = 30
# Importing the application takes two seconds, and ten times that on a busy machine.
_READY_S_MAX = 60.0


class PortTaken(GatewayError):
    """The port cannot be listened on."""


class WorkerFailed(GatewayError):
    """A worker ended before it served."""


class _Supervisor(Multiprocess):
    """uvicorn's, which would wait for one predecessor's last answer before it replaces the next.

    Keeps `files`, which go to each new worker, as they were when they were last good.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        files: Sequence[Plans | Routing],
    ) -> None:
        super().__init__(config, sockets)
        self._files = files
        self._predecessors: list[Process] = []

    def restart_all(self) -> None:
        for number, old in enumerate(self.processes):
            new = Process(self.config, self.sockets)
            new.start()
            if not new.wait_until_ready(_READY_S_MAX, self.should_exit):
                new.kill()
                new.join()
                return  # the old ones go on
            self.processes[number] = new
            assert old.pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(old.pid, REPLACED_SIGNAL)
                old.terminate()
            self._predecessors.append(old)

    def keep_subprocess_alive(self) -> None:
        for file in self._files:
            with contextlib.suppress(FileUnusable):  # the workers tell
                file.renew()
        self._predecessors = [p for p in self._predecessors if p.process.is_alive()]
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        """Also stops to listen: else new connections would wait, unheard, for the last answer."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def join_all(self) -> None:
        """Waits for the workers; predecessors get no longer than these."""
        super().join_all()
        for process in self._predecessors:
            process.process.kill()
            process.join()


def run(settings: GatewaySettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        FileUnusable: the file of plans or of routes cannot be read or has a mistake.
        PortTaken: something else listens on the port, or it may not be opened.
        WorkerFailed: a worker could not start; its log says why.
    """
    plans, routing = Plans(settings.plans_file), Routing(settings.routes_file)
    listener = _listen(settings.host, settings.port)
    # prometheus_client reads this when the workers import it.
    metrics_folder = tempfile.mkdtemp(prefix="floodgate-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
    config = uvicorn.Config(
        functools.partial(_worker_app, settings, plans, routing, os.getpid()),
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http="gateway.connection.bounded_protocol:BoundedProtocol",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        backlog=_BACKLOG,  # uvicorn listens once more on the socket that it is given
        server_header=False,
        date_header=False,
        # gateway.connection.client_address believes headers of trusted proxies, and only theirs.
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.gateway_drain_s_max,
        timeout_worker_healthcheck=_STUCK_S_MAX,
    )
    supervisor = _Supervisor(config, sockets=[listener], files=(plans, routing))
    try:
        supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            raise WorkerFailed("A gateway worker could not start; the lines above say why.")
    finally:
        listener.close()
        shutil.rmtree(metrics_folder, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=_BACKLOG,
        )
    except OSError as error:
        raise PortTaken(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            "Choose another with --port or FLOODGATE_PORT."
        ) from error
    for level, option, value in _PEER_GONE:
        listener.setsockopt(level, option, value)
    return listener


def _worker_app(
    settings: GatewaySettings, plans: Plans, routing: Routing, supervisor_pid: int
) -> object:
    """Called by uvicorn in each worker process."""
    from gateway.app import create_app
    from gateway.connection.bounded_protocol import BoundedProtocol, ConnectionBounds
    from gateway.telemetry.logs import configure_logs

    _die_with(supervisor_pid)
    configure_logs(settings.log_level, settings.log_format)
    BoundedProtocol.bounds = ConnectionBounds(
        header_bytes_max=settings.header_bytes_max,
        header_time_s_max=settings.header_time_s_max,
        body_time_s_max=settings.body_time_s_max,
        write_stall_s_max=settings.write_stall_s_max,
    )
    # They may have changed since the supervisor looked.
    plans.refresh()
    routing.refresh()
    return create_app(settings, plans, routing)


def _die_with(supervisor_pid: int) -> None:
    """A worker whose supervisor was killed must not hold the port. Linux only."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor_pid:
        os.kill(os.getpid(), signal.SIGTERM)
