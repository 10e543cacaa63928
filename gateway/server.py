"""Runs the gateway: one supervisor, and worker processes that share the listening socket.

A worker that dies is started anew, and its slots come back when its lease ends. SIGTERM lets
running answers finish for `gateway_drain_s_max`, then cuts them.
"""

import ctypes
import functools
import os
import shutil
import signal
import socket
import tempfile

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings

_PR_SET_PDEATHSIG = 1
# Connections that wait to be accepted; a spike arrives faster than a worker accepts.
_BACKLOG = 4096


class PortTaken(GatewayError):
    """The port cannot be listened on."""


class WorkerFailed(GatewayError):
    """A worker ended before it served."""


def run(settings: GatewaySettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        PortTaken: something else listens on the port, or it may not be opened.
        WorkerFailed: a worker could not start; its log says why.
    """
    listener = _listen(settings.host, settings.port)
    # prometheus_client reads this when the workers import it.
    metrics_folder = tempfile.mkdtemp(prefix="floodgate-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
    config = uvicorn.Config(
        functools.partial(_worker_app, settings, os.getpid()),
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http="gateway.bounded_protocol:BoundedProtocol",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        # gateway.client_address believes the headers of trusted proxies, and only theirs.
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.gateway_drain_s_max,
    )
    supervisor = Multiprocess(config, sockets=[listener])
    try:
        supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            raise WorkerFailed("A gateway worker could not start; the lines above say why.")
    finally:
        listener.close()
        shutil.rmtree(metrics_folder, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=_BACKLOG,
        )
    except OSError as error:
        raise PortTaken(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            "Choose another with --port or FLOODGATE_PORT."
        ) from error


def _worker_app(settings: GatewaySettings, supervisor_pid: int) -> object:
    """Called by uvicorn in each worker process."""
    from gateway.app import create_app
    from gateway.bounded_protocol import bounded
    from gateway.logs import configure_logs

    _die_with(supervisor_pid)
    configure_logs(settings.log_level, settings.log_format)
    bounded(
        header_bytes_max=settings.header_bytes_max,
        header_time_s_max=settings.header_time_s_max,
        body_time_s_max=settings.body_time_s_max,
    )
    return create_app(settings)


def _die_with(supervisor_pid: int) -> None:
    """A worker whose supervisor was killed must not hold the port. Linux only."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor_pid:
        os.kill(os.getpid(), signal.SIGTERM)
