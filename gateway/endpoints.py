"""The engine endpoints that the gate lets through. An allow-list: what is not here is 404."""

from dataclasses import dataclass

from gateway.error_shapes import ErrorShape


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One engine endpoint. `name` is its path below /v1, as replica records list it."""

    name: str
    shape: ErrorShape
    summary: str
    streams: bool = True

    @property
    def path(self) -> str:
        return "/v1/" + self.name


ENDPOINTS = (
    Endpoint("chat/completions", ErrorShape.OPENAI, "Chat with a model"),
    Endpoint("completions", ErrorShape.OPENAI, "Complete a text"),
    Endpoint("responses", ErrorShape.RESPONSES, "One answer in the Responses format"),
    Endpoint("messages", ErrorShape.ANTHROPIC, "Chat in Anthropic's format"),
    Endpoint("embeddings", ErrorShape.OPENAI, "Embed texts", streams=False),
)


def shape_of(path: str) -> ErrorShape:
    """The error shape that callers of a path expect."""
    return ErrorShape.ANTHROPIC if path == "/v1/messages" else ErrorShape.OPENAI
