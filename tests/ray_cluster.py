"""Several nodes of Ray on this machine, each as `ray start` makes it, at a loopback address."""

import contextlib
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.free_ports import free_port
from tests.running_floodgate import floodgate

_START_S_MAX = 120.0
_MIB = 2**20
# Ray takes 127.0.0.1 for the address of the machine's outward interface.
_HEAD = "127.0.0.10"


class RayCluster:
    """A head without work and nodes that each have room for so many replicas of one core.

    `settings` are Floodgate's, as they are named in .env.example, without the prefix.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self._folder = folder
        self._settings = settings
        self._gcs_port, self._dashboard_port = free_port(), free_port()
        self._proxy_port = free_port()
        self._token = secrets.token_hex(32)
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def own_environment(self) -> dict[str, str]:
        """The settings, on top of what this process has."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLOODGATE_")}
        return {**kept, **{f"FLOODGATE_{k.upper()}": str(v) for k, v in self._settings.items()}}

    def node_environment(self) -> dict[str, str]:
        """As `floodgate cluster env` prints it, with a token."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLOODGATE_")}
        lines = self.floodgate("cluster", "env").splitlines()
        told = dict(shlex.split(line)[0].split("=", 1) for line in lines)
        return {**kept, **told, "RAY_AUTH_TOKEN": self._token}

    def floodgate(self, *arguments: str) -> str:
        """What a `floodgate` command prints."""
        return _output([floodgate(), *arguments], self.own_environment)

    def change(self, **settings: object) -> None:
        """Settings of a model, for the next `deploy`: the nodes have been told no others."""
        self._settings |= settings

    def start(self, *nodes: str) -> None:
        """The head, then a node with one core at each of these addresses."""
        self._add(
            _HEAD,
            "--head",
            "--num-cpus=0",
            f"--port={self._gcs_port}",
            f"--temp-dir={self._folder}",
            f"--dashboard-host={_HEAD}",
            f"--dashboard-port={self._dashboard_port}",
            f"--ray-client-server-port={free_port()}",
        )
        for address in nodes:
            self.add(address)

    def add(self, address: str) -> None:
        """One more node with one core."""
        self._add(address, f"--address={_HEAD}:{self._gcs_port}", "--num-cpus=1")

    def _add(self, address: str, *options: str) -> None:
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--block",
            f"--node-ip-address={address}",
            f"--object-store-memory={80 * _MIB}",
            f"--dashboard-agent-listen-port={free_port()}",
            "--disable-usage-stats",
            *options,
        ]
        log = self._folder / f"node-{address}.log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                command, env=self.node_environment(), stdout=output, stderr=output
            )
        self._nodes[address] = started
        deadline = time.monotonic() + _START_S_MAX
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert started.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.1)

    def deploy(self, *, build: str = "") -> str:
        """What `serve deploy` says of the config that `floodgate cluster config` prints.

        `build`: what makes the applications, in the place of Floodgate's own.
        """
        path = self._folder / "serve.yaml"
        text = self.floodgate("cluster", "config", f"--proxy-port={self._proxy_port}")
        path.write_text(text.replace("serving.cluster.application:build", build) if build else text)
        return self.serve("deploy", str(path))

    def serve(self, *arguments: str) -> str:
        """What Ray's `serve` command says of this cluster."""
        command = str(Path(sys.executable).with_name("serve"))
        address = f"http://{_HEAD}:{self._dashboard_port}"
        return _output([command, *arguments, f"--address={address}"], self.node_environment())

    def logs(self) -> str:
        """What Ray's processes have logged, of all nodes together."""
        paths = (self._folder / "session_latest" / "logs").rglob("*")
        return "".join(each.read_text(errors="replace") for each in paths if each.is_file())

    def kill(self, address: str) -> None:
        """As a machine that loses its power."""
        node = self._nodes.pop(address)
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(node.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        node.kill()
        node.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for address in list(self._nodes):
            self.kill(address)


def _output(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout
