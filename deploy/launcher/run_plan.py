"""What one run consists of: its mark, its secrets, and the environment of each process."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.errors import Refused
from deploy.home import Home
from deploy.launcher.child import ChildPlan, python_argv, python_environ
from deploy.launcher.marked_processes import MARK, new_mark
from deploy.machine import GIB, check_memory
from deploy.settings import LaunchSettings, read_settings
from deploy.waitlist_secret import keep_waitlist_secret
from gateway.settings import GatewaySettings
from serving.errors import ServingError
from serving.models.models_file import read_models
from serving.models.weight_files import weight_files
from serving.settings import ServingSettings

# The gateway's workers end within this of their last answer.
_GATEWAY_END_S_MAX = 1.5
_SERVING_GRACE_S = 8.0
_REDIS_END_S_MAX = 1.0
# Measured with the default model: everything but the replicas takes 1.2 GiB, one CPU replica
# 1.9 GiB beside its weights (twice while they load) and its KV cache.
_OTHERS_BYTES = 12 * GIB // 10
_REPLICA_BYTES = 19 * GIB // 10
_KV_CACHE_GIB_DEFAULT = 2.0


@dataclass(frozen=True)
class RunPlan:
    """Everything that is settled before the first process starts."""

    settings: LaunchSettings
    home: Home
    mark: str
    environ: dict[str, str] = field(repr=False)
    engine_secret: str = field(repr=False)

    @classmethod
    def new(cls, settings: LaunchSettings) -> "RunPlan":
        """A new run with secrets of its own."""
        home = settings.folders()
        mark = new_mark(secrets.token_hex(8), str(home.root))
        environ = python_environ(os.environ)
        environ[MARK] = mark
        # Ray and vLLM would write their titles over the environment, and over the mark in it.
        environ["SPT_NOENV"] = "1"
        environ["FLOODGATE_HOME"] = str(home.root)
        environ["FLOODGATE_CACHE"] = str(home.cache)
        return cls(settings, home, mark, environ, secrets.token_urlsafe(32))

    @property
    def local_host(self) -> str:
        """Where the gateway is reached from this machine."""
        every = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        return every.get(self.settings.host, self.settings.host)

    @property
    def url(self) -> str:
        """The gateway's URL for people on this machine."""
        host = self.local_host
        if host in ("127.0.0.1", "::1"):
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"

    @property
    def stop_s_max(self) -> float:
        """Longest that a stop takes: gateway, then serving, then Redis; usually 4 s in all."""
        gateway_s = self.settings.answers_s_max + _GATEWAY_END_S_MAX
        return gateway_s + self._serving_grace_s + _REDIS_END_S_MAX

    @property
    def _serving_grace_s(self) -> float:
        drains = self.settings.stop_in_flight == "drain"
        return _SERVING_GRACE_S + (self.settings.drain_s_max if drains else 0)

    def gateway_settings(self, ledger_url: str, flow_url: str) -> GatewaySettings:
        """The gateway's settings as it will read them. Raises Refused."""
        return read_settings(
            GatewaySettings,
            ledger_url=ledger_url,
            flow_url=flow_url,
            host=self.settings.host,
            port=self.settings.port,
        )

    def models(self, flow_url: str, model: str) -> tuple[ServingSettings, ...]:
        """Each model's settings as serving will read them. Raises Refused."""
        settings = read_settings(
            ServingSettings,
            flow_url=flow_url,
            engine_secret=self.engine_secret,
            model=model,
        )
        try:
            return read_models(settings)
        except ServingError as error:
            raise Refused(str(error), "docs/operations.md, Several models, has one.") from error

    def gateway_child(self, ledger_url: str, flow_url: str) -> ChildPlan:
        settings = self.settings
        drain_s = settings.answers_s_max
        if own_drain_s := os.environ.get("FLOODGATE_GATEWAY_DRAIN_S_MAX"):
            drain_s = min(drain_s, int(float(own_drain_s)))
        return ChildPlan(
            name="gateway",
            argv=python_argv("deploy.cli", "gateway"),
            log_path=self.home.logs / "gateway.log",
            environ={
                **self.environ,
                "FLOODGATE_LEDGER_URL": ledger_url,
                "FLOODGATE_FLOW_URL": flow_url,
                "FLOODGATE_ENGINE_SECRET": self.engine_secret,
                "FLOODGATE_WAITLIST_SECRET": os.environ.get("FLOODGATE_WAITLIST_SECRET")
                or keep_waitlist_secret(self.home),
                "FLOODGATE_PUBLIC_URL": os.environ.get("FLOODGATE_PUBLIC_URL") or self.url,
                "FLOODGATE_HOST": settings.host,
                "FLOODGATE_PORT": str(settings.port),
                "FLOODGATE_GATEWAY_DRAIN_S_MAX": str(drain_s),
            },
            grace_s=settings.answers_s_max + _GATEWAY_END_S_MAX,
            port=settings.port,
        )

    def serving_child(self, flow_url: str, model: str, phase_file: Path) -> ChildPlan:
        return ChildPlan(
            name="serving",
            argv=python_argv("deploy.cli", "serving", "--phase-file", str(phase_file)),
            log_path=self.home.logs / "serving.log",
            environ={
                **self.environ,
                "FLOODGATE_FLOW_URL": flow_url,
                "FLOODGATE_ENGINE_SECRET": self.engine_secret,
                "FLOODGATE_MODEL": model,
            },
            grace_s=self._serving_grace_s,
        )


def check_engine_memory(models: Sequence[ServingSettings], *, on_gpu: bool) -> None:
    """Raises MachineTooSmall where the replicas cannot fit. A hub model's size is not known."""
    names = ", ".join(f"{each.most_replicas} x {each.served_name}" for each in models)
    replicas = sum(each.most_replicas * _replica_bytes(each, on_gpu=on_gpu) for each in models)
    check_memory(_OTHERS_BYTES + replicas, f"Serving {names}")


def _replica_bytes(serving: ServingSettings, *, on_gpu: bool) -> int:
    weights = weight_files(Path(serving.model).expanduser())
    # A link whose file is gone is told by serving, which looks the whole folder over.
    sizes = [path.stat().st_size for path in weights if path.is_file()]
    if on_gpu:
        # Each rank has one file in memory on its way to the GPU.
        return _REPLICA_BYTES + max(sizes, default=0) * serving.tensor_parallel
    kv_cache = round((serving.kv_cache_gib or _KV_CACHE_GIB_DEFAULT) * GIB)
    return _REPLICA_BYTES + sum(sizes) * 2 + kv_cache
