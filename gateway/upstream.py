"""HTTP to the engine. The one module that imports aiohttp.

Redirects are not followed, cookies are not kept, bodies are not decompressed: bytes pass as they
are. Closing an answer before its end closes the connection, which is what makes vLLM abort the
work behind it.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType

import aiohttp

from gateway.errors import EngineBroken, EngineUnreachable

# Replicas are in the same machine room; a connect that takes two seconds means a dead one.
_CONNECT_S_MAX = 2.0
# Below the replicas' own keep-alive of five seconds, so that no request is sent into a
# connection that the replica is closing.
_KEEP_ALIVE_S = 4.0
_PROBE_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """An answer whose status and headers have come; its body is still to be read."""

    status: int
    content_type: str
    content_length: int | None
    _response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come.

        Raises:
            EngineBroken: the connection ended before the body did.
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise EngineBroken(f"the engine's answer broke off: {error}") from error

    async def whole(self) -> bytes:
        """The whole body, for small answers.

        Raises:
            EngineBroken: the connection ended before the body did.
        """
        try:
            return await self._response.read()
        except aiohttp.ClientError as error:
            raise EngineBroken(f"the engine's answer broke off: {error}") from error

    def __enter__(self) -> "EngineAnswer":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A body that was read to its end has given its connection back already; one that was
        # not is cut here, and the engine aborts.
        self._response.close()


class Upstream:
    """Requests to replicas, or to one OpenAI-compatible server."""

    def __init__(self, *, engine_secret: str, api_key: str) -> None:
        # The replica must notice that we hang up on a request that does not stream
        # (Ray Serve would otherwise shield it).
        self._headers = {"content-type": "application/json", "x-request-disconnect-disabled": "?1"}
        if engine_secret:
            self._headers["x-floodgate-engine-secret"] = engine_secret
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=self._headers,
            skip_auto_headers=("user-agent", "accept-encoding"),
        )

    async def post(
        self, base_url: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> EngineAnswer:
        """Sends one request and waits for status and headers.

        Raises:
            EngineUnreachable: no answer came at all.
        """
        try:
            response = await self._session.post(
                base_url + path, data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnreachable(f"{base_url}: {error}") from error
        return EngineAnswer(
            response.status,
            response.headers.get("content-type", "application/json"),
            response.content_length,
            response,
        )

    async def list_models(self, base_url: str) -> tuple[str, ...]:
        """Names that the server gives its models (`GET /v1/models`).

        Raises:
            EngineUnreachable: no answer, or none that lists models.
        """
        timeout = aiohttp.ClientTimeout(total=_PROBE_S_MAX)
        try:
            async with self._session.get(base_url + "/v1/models", timeout=timeout) as response:
                if response.status != 200:
                    raise EngineUnreachable(
                        f"{base_url}/v1/models answered {response.status}; "
                        "check the URL and FLOODGATE_UPSTREAM_API_KEY"
                    )
                document = await response.json(content_type=None)
            return tuple(str(model["id"]) for model in document["data"])
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            raise EngineUnreachable(
                f"{base_url}/v1/models: {error or type(error).__name__}"
            ) from error

    async def close(self) -> None:
        await self._session.close()
