"""What the launcher asks its own gateway: whether it is ready, and one first request."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.errors import ProcessFailed
from deploy.sample_requests import SAMPLES, Sample

# The engine's first request runs code that no request ran before: 2 s on a slow machine.
_CHAT_S_MAX = 120.0
_READY_S_MAX = 2.0
_CHAT_TOKENS = 5


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """`first_token_at` is on the caller's clock, in seconds. `sample` is what the model can do."""

    first_token_at: float
    sample: Sample


class _NotForThisModel(Exception):
    """The model cannot do what was asked."""


def read_readiness(host: str, port: int) -> tuple[bool, dict[str, Any]]:
    """Whether the gateway is ready, and its report; not ready with an empty one when it is gone."""
    connection = http.client.HTTPConnection(host, port, timeout=_READY_S_MAX)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        report = json.loads(answer.read())
        return answer.status == 200, report if isinstance(report, dict) else {}
    except (OSError, http.client.HTTPException, ValueError):
        return False, {}
    finally:
        connection.close()


def redeem(host: str, port: int, code: str, email: str) -> tuple[str, str]:
    """Redeems a code as everybody does; the API key and its id. Raises ProcessFailed."""
    connection = http.client.HTTPConnection(host, port, timeout=_CHAT_S_MAX)
    try:
        _post(connection, "/invites/redeem", {"code": code, "email": email})
        answer = connection.getresponse()
        document = json.loads(_checked(answer, "redeeming the first code"))
        return document["api_key"], document["key_id"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise _failed("redeeming the first code", str(error)) from error
    finally:
        connection.close()


def read_first_model(host: str, port: int, api_key: str) -> str:
    """The id of the first model that the gateway lists. Raises ProcessFailed when it has none."""
    connection = http.client.HTTPConnection(host, port, timeout=_CHAT_S_MAX)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {api_key}"})
        document = json.loads(_checked(connection.getresponse(), "listing the models"))
        return str(document["data"][0]["id"])
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        raise _failed("listing the models", str(error)) from error
    finally:
        connection.close()


def ask_first(
    host: str, port: int, model: str, api_key: str, clock: Callable[[], float] = time.monotonic
) -> FirstAnswer:
    """Asks the first of SAMPLES that the model can do. Raises ProcessFailed without an answer."""
    for sample in SAMPLES:
        connection = http.client.HTTPConnection(host, port, timeout=_CHAT_S_MAX)
        body = {"model": model, **sample.body}
        if sample.streams:
            body["max_tokens"] = _CHAT_TOKENS
        try:
            _post(connection, f"/v1/{sample.endpoint}", body, api_key)
            answer = connection.getresponse()
            return FirstAnswer(_first_token_at(answer, sample, clock), sample)
        except _NotForThisModel:
            continue
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise _failed("the first request", str(error)) from error
        finally:
            connection.close()
    raise _failed("the first request", f"{model} can neither chat, nor complete, nor embed")


def _first_token_at(
    answer: http.client.HTTPResponse, sample: Sample, clock: Callable[[], float]
) -> float:
    """When the first text came; the whole answer is read."""
    if answer.status == 404:
        body = answer.read()
        if b"endpoint_not_supported" in body:
            raise _NotForThisModel
        raise _failed("the first request", body[:300].decode(errors="replace"))
    if answer.status != 200 or not sample.streams:
        _checked(answer, "the first request")
        return clock()
    came_at: float | None = None
    for line in answer:
        if not line.startswith(b"data:") or b"[DONE]" in line:
            continue
        event = json.loads(line[5:])
        if "error" in event:
            raise _failed("the first request", str(event["error"].get("message")))
        if came_at is None and sample.text_of(event):
            came_at = clock()
    if came_at is None:
        raise _failed("the first request", "the answer holds no text")
    return came_at


def _post(
    connection: http.client.HTTPConnection, path: str, body: dict[str, Any], api_key: str = ""
) -> None:
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    connection.request("POST", path, json.dumps(body), headers)


def _checked(answer: http.client.HTTPResponse, what: str) -> bytes:
    body = answer.read()
    if answer.status not in (200, 201):
        raise _failed(what, f"status {answer.status}, {body[:300].decode(errors='replace')}")
    return body


def _failed(what: str, why: str) -> ProcessFailed:
    return ProcessFailed(
        f"Everything started, but {what} failed: {why}.", "See the logs of gateway and serving."
    )
