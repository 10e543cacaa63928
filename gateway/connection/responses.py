"""Small whole answers on plain ASGI: errors and JSON; and an error where ASGI was not reached."""

from collections.abc import Iterable
from http import HTTPStatus

from starlette.types import Send

from gateway.error_shapes import ErrorShape, error_body
from gateway.errors import ApiError


async def send_whole(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """A JSON answer with its length."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, shape: ErrorShape, request_id: str) -> None:
    """An error as the whole answer, in the shape that the endpoint's clients understand."""
    headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    await send_whole(send, error.status_code, error_body(error, shape, request_id), headers)


def last_answer(error: ApiError) -> bytes:
    """An error as the bytes of an answer after which the connection is closed."""
    body = error_body(error, ErrorShape.OPENAI, "")
    status = error.status_code
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
