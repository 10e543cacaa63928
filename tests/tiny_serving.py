"""`floodgate serving` as it is, on real Ray Serve, with the replicas of `tiny_replica`."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil

from tests.free_ports import free_port

_STOP_S_MAX = 30.0


@dataclass(frozen=True)
class TinyReplica:
    """One that answers; one that drains does so too, and takes nothing new."""

    port: int
    pid: int
    model: str
    slots: int
    drains: bool = field(compare=False)


class TinyServing:
    """The program, with its files in `folder`, which has a models file of these models.

    `further` are settings.
    """

    def __init__(
        self,
        folder: Path,
        flow_url: str,
        models: Mapping[str, Mapping[str, Any]],
        **further: Any,
    ) -> None:
        self._folder = folder
        self.models_file = folder / "models.yaml"
        self._port_min = free_port()
        self._ports = range(self._port_min, self._port_min + 1000)
        self.write(models)
        settings = {
            "home": folder / "home",
            "models_file": self.models_file,
            "flow_url": flow_url,
            "engine_secret": "0123456789abcdef",
            "replica_port_min": self._port_min,
            "accelerator": "cpu",
            **further,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLOODGATE_")}
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("tiny_replica.py")],
                env={**kept, **{f"FLOODGATE_{k.upper()}": str(v) for k, v in settings.items()}},
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def folder_of(self, name: str) -> str:
        """A model's folder, whole as far as can be seen before a start."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
        (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        return str(folder)

    def write(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """What is to be served from now on; a model's folder is named by its last part alone."""
        terms = {
            name: {**each, "model": self.folder_of(each["model"])} for name, each in models.items()
        }
        written = self.models_file.with_suffix(".new")
        written.write_text(json.dumps(terms, indent=1))
        written.rename(self.models_file)

    @property
    def output(self) -> str:
        assert self._process.poll() is None, self._text()
        return self._text()

    def _text(self) -> str:
        return (self._folder / "output").read_text(errors="replace")

    async def until_told(self, words: str, *, times: int = 1) -> None:
        """Until so many lines have these words."""
        while sum(words in line for line in self.output.splitlines()) < times:
            await asyncio.sleep(0.1)

    def replicas(self) -> list[TinyReplica]:
        """Those that listen now."""
        found: list[TinyReplica] = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                connections = process.net_connections("tcp")
            except psutil.Error:
                continue
            ports = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
            found += tiny_replicas(ports & set(self._ports))
        return found

    async def until_replicas(self, *wanted: tuple[str, int]) -> list[TinyReplica]:
        """Until exactly these answer, each a folder's name and a number of slots."""
        while True:
            found = await asyncio.to_thread(self.replicas)
            if sorted((each.model, each.slots) for each in found) == sorted(wanted):
                return found
            assert self._process.poll() is None, self._text()
            await asyncio.sleep(0.1)

    async def until_serves(self, model: str, slots: int) -> None:
        """Until such a replica takes requests; fails where meanwhile none of the others does."""
        while True:
            found = await asyncio.to_thread(self.replicas)
            if all(each.drains for each in found):  # one may have come while others were asked
                found = await asyncio.to_thread(self.replicas)
            serving = [(each.model, each.slots) for each in found if not each.drains]
            assert serving, "nobody takes requests"
            if (model, slots) in serving:
                return
            await asyncio.sleep(0.1)

    async def stream(self, replica: TinyReplica) -> asyncio.Task[str]:
        """An answer that has begun, to its end."""
        return await stream(replica.port)

    def let_go(self, go: bool = True) -> None:
        """End all streams, or let new ones begin."""
        path = self._folder / "home" / "let-go"
        path.touch() if go else path.unlink(missing_ok=True)

    def kill_controller(self) -> None:
        """Ray Serve's, which Ray starts again."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if process.cmdline()[:1] == ["ray::ServeController"]:
                process.kill()
                return
        raise AssertionError("there is no controller")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


async def stream(port: int) -> asyncio.Task[str]:
    """An answer of the replica there that has begun, to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /stream HTTP/1.1\r\nhost: tiny\r\nconnection: close\r\n\r\n")
    await reader.readuntil(b"counting")

    async def rest() -> str:
        text = await reader.read()
        writer.close()
        return text.decode()

    return asyncio.create_task(rest())


def tiny_replicas(ports: Collection[int]) -> list[TinyReplica]:
    """Those that answer at one of these."""
    answers = [(port, _ask(port)) for port in ports]
    return [TinyReplica(port, **answer) for port, answer in answers if answer]


def _ask(port: int) -> dict[str, Any] | None:
    """Who answers there; None for nobody, and for others than replicas."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        who: dict[str, Any] = json.loads(connection.getresponse().read())["who"]
        connection.request("GET", "/-/healthz")
        return {**who, "drains": connection.getresponse().status != HTTPStatus.OK}
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    finally:
        connection.close()
