"""The simulator's own port: `GET /stats`, `POST /faults`, `GET /health`.

Apart from the replicas' ports, so that it answers while they crash.
"""

import asyncio
from collections.abc import Sequence

from pydantic import ValidationError

from loadtests.engine_simulator.faults import FaultCommand
from loadtests.engine_simulator.http_connection import HttpConnection, Request
from loadtests.engine_simulator.replica import Replica


class AdminPort:
    """Serves commands about all replicas of the process."""

    def __init__(self, replicas: Sequence[Replica], *, speed: float) -> None:
        self._replicas = replicas
        self._speed = speed
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, request: Request, connection: HttpConnection) -> None:
        """Answer one request."""
        if request.path == "/health":
            connection.send(200, b"")
        elif request.path == "/stats":
            replicas = [replica.stats() for replica in self._replicas]
            connection.send_json(200, {"speed": self._speed, "replicas": replicas})
        elif request.path == "/faults" and request.method == "POST":
            self._take(request, connection)
        else:
            connection.send_json(404, {"error": "there are /health, /stats and POST /faults"})

    def _take(self, request: Request, connection: HttpConnection) -> None:
        try:
            command = FaultCommand.model_validate_json(request.body)
            chosen = self._chosen(command)
        except ValidationError as error:
            connection.send_json(400, {"error": str(error)})
            return
        except IndexError:
            connection.send_json(400, {"error": f"there are {len(self._replicas)} replicas"})
            return
        task = asyncio.ensure_future(self._do(command, chosen, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _chosen(self, command: FaultCommand) -> list[Replica]:
        if command.replicas is None:
            return list(self._replicas)
        if any(index < 0 for index in command.replicas):
            raise IndexError
        return [self._replicas[index] for index in command.replicas]

    async def _do(
        self, command: FaultCommand, chosen: Sequence[Replica], connection: HttpConnection
    ) -> None:
        try:
            for replica in chosen:
                await replica.take(command)
        except OSError as error:
            connection.send_json(500, {"error": f"the port is taken by now: {error}"})
        else:
            connection.send_json(200, {"done": command.kind, "replicas": len(chosen)})
