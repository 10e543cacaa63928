"""An ASGI application on the gateway's own HTTP protocol, in the test's process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from gateway.connection.bounded_protocol import BoundedProtocol, ConnectionBounds

BOUNDS = ConnectionBounds(
    header_bytes_max=9999, header_time_s_max=9, body_time_s_max=9, write_stall_s_max=9
)


@asynccontextmanager
async def serving(app: ASGIApp, protocol: type[BoundedProtocol]) -> AsyncIterator[str]:
    """Its URL while it serves, with the headers of the application alone, as in the gateway."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            http=protocol,
            lifespan="off",
            log_level="critical",
            server_header=False,
            date_header=False,
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await running
