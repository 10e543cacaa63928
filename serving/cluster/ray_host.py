"""Ray on this machine: started closed to everybody else, and taken down with all it started."""

from __future__ import annotations

import datetime as dt
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.environment import run_environment
from serving.phases import Phases
from serving.settings import ServingSettings
from serving.stop_signals import take_signals
from serving.tls import make_certificates

# The object store carries no tokens here; this is the least that Ray takes.
_OBJECT_STORE_BYTES = 80 * 2**20
# What Ray deals out when it places replicas. It limits nobody, so there is enough for whatever
# models come later, with replicas that drain while others start.
_CPUS_OF_RAY = 10_000
# A stop must fit in 10 s: draining is set apart, then Serve, Ray and what is left.
_SERVE_STOP_S_MAX = 4.0
_RAY_STOP_S_MAX = 3.0


def start_ray(
    settings: ServingSettings, models: Sequence[ServingSettings], folder: Path, phases: Phases
) -> None:
    """Set the environment of the run, start Ray, then Ray Serve without any application."""
    certificates = make_certificates(folder, now=dt.datetime.now(dt.UTC))
    os.environ.update(
        run_environment(
            settings,
            models,
            run_folder=folder,
            certificates=certificates,
            token=secrets.token_hex(32),
        )
    )
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    phases.done("imported Ray")
    ray.init(
        address="local",
        num_cpus=_CPUS_OF_RAY,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=True,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder / "ray"),
    )
    # Ray has put its own handlers in.
    take_signals()
    phases.done("started Ray")
    # Ray insists on a proxy on the head node where replicas have ports of their own. It gets a
    # port that nobody knows, on loopback, and the replicas ask it for the secret too.
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=settings.replica_host, port=0),
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    phases.done("started Ray Serve")


def stop_ray(phases: Phases) -> None:
    """Stop Serve, then Ray, each for as long as there is time."""
    import ray
    from ray import serve

    # Without a running Ray, Serve would start one to ask it whether there is something to stop.
    if ray.is_initialized():
        _within(_SERVE_STOP_S_MAX, serve.shutdown)
        phases.done("stopped Ray Serve")
        _within(_RAY_STOP_S_MAX, ray.shutdown)


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Run `call`, and go on without it when it takes longer."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
