"""The environment that Ray and vLLM are started in. Set before either is imported.

Ray's daemons, its workers and vLLM's processes inherit it from the process that starts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serving.hardware.cores import NOBIND
from serving.models.model_folder import is_local
from serving.settings import ServingSettings
from serving.tls import Certificates

RUN_MARK = "FLOODGATE_SERVING_RUN"
"""Carried by every process of a run; its value is the run's folder."""


def run_environment(
    settings: ServingSettings,
    models: Sequence[ServingSettings],
    *,
    run_folder: Path,
    certificates: Certificates,
    token: str,
) -> dict[str, str]:
    """All variables of one run on one machine. `token` is what Ray's processes show each other."""
    home = settings.home.expanduser()
    return {
        RUN_MARK: str(run_folder),
        **_closed_sockets(certificates, token),
        **node_environment(settings, models),
        # Ray would start as many idle workers as it has CPUs, which here are but a number.
        "RAY_prestart_worker_first_driver": "0",
        # Compiled code outlives the run: 110 s the first time, a fraction of it afterwards.
        "VLLM_CACHE_ROOT": str(home / "cache" / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(home / "cache" / "inductor"),
    }


def node_environment(
    settings: ServingSettings, models: Sequence[ServingSettings]
) -> dict[str, str]:
    """What every node of Ray must be started with, on one machine and in a cluster."""
    return {
        # For the scaling policy in Ray's controller: what it is given as an argument, Ray logs.
        "FLOODGATE_FLOW_URL": settings.flow_url.get_secret_value(),
        **_request_path(settings),
        **_engine(models),
        **_quiet(settings),
    }


def _closed_sockets(certificates: Certificates, token: str) -> dict[str, str]:
    return {
        # Despite its name: on one machine this binds GCS, raylet and workers to 127.0.0.1.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # The replica's gRPC port binds to every interface and unpickles what it is sent: mutual
        # TLS keeps everybody without this run's certificate out.
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(certificates.authority),
        "RAY_TLS_SERVER_CERT": str(certificates.certificate),
        "RAY_TLS_SERVER_KEY": str(certificates.key),
        # Ray 2.60 makes a token by itself, but keeps it in the home folder for every later run.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        # vLLM and gloo would pick the address of the first outward interface.
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_LOOPBACK_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def _request_path(settings: ServingSettings) -> dict[str, str]:
    return {
        # Each replica serves vLLM's whole HTTP API on a port of its own, with no proxy before it.
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(settings.replica_ports.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(settings.replica_ports.stop),
        # vLLM runs on the loop that reads the sockets: saves a hop per event, and is the half of
        # hearing hang-ups (the other is the gateway's x-request-disconnect-disabled header).
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        # A replica that goes says so in its next record, within a second, and gateways look once a
        # second: until then, and one more, its port stays open for who has not heard. A stop of
        # everything does without (ray_internals.close_at_once).
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        # Ports are held back only for a proxy that still routes to them.
        "RAY_SERVE_PORT_QUARANTINE_S": "0",
        # Serve's controller looks at its actors ten times a second: 3 % of a core, for good.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "1.0",
        # A replica whose engine is dead has no answers to finish: Ray would wait for them.
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
        # What Ray's daemons look at many times a second, once a second or less: idle, everything
        # took 0.103 of a core before and 0.092 after, which busy cores would rather compute with.
        "RAY_raylet_report_resources_period_milliseconds": "1000",
        "RAY_gcs_pull_resource_loads_period_milliseconds": "5000",
        "RAY_kill_idle_workers_interval_ms": "2000",
        "RAY_memory_monitor_refresh_ms": "1000",
        # Ray starts its workers at nice 15, behind everything else on the machine.
        "RAY_worker_niceness": "0",
    }


def _engine(models: Sequence[ServingSettings]) -> dict[str, str]:
    # Never vLLM's default, which binds every replica to the same cores; each replica sets its
    # own value before its engine starts.
    environment = {"VLLM_CPU_OMP_THREADS_BIND": NOBIND}
    if all(is_local(each.model) for each in models):
        # A folder needs no hub, and looking for one on a closed network takes minutes.
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def _quiet(settings: ServingSettings) -> dict[str, str]:
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": settings.log_level.upper(),
        "VLLM_LOGGING_COLOR": "0",
        # Identical lines of several workers are shown as they come; an engine's last words count.
        "RAY_DEDUP_LOGS": "0",
    }
