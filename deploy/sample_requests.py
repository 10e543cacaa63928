"""One small request for each kind of model: a chat, a text to go on with, or texts to embed.

The launcher tries them in this order until the model can do one, and shows that one to people.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """`body` lacks the model; `python` uses `client` and `MODEL`."""

    endpoint: str
    body: dict[str, Any]
    python: str

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))

    def text_of(self, event: dict[str, Any]) -> str:
        """The text that an event of the stream adds."""
        choices = event.get("choices", ())
        return "".join(c.get("delta", c).get("content") or c.get("text") or "" for c in choices)


_CHAT_PYTHON = """\
messages = [{"role": "user", "content": "What is the capital of France?"}]
for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()"""
_COMPLETION_PYTHON = """\
for chunk in client.completions.create(model=MODEL, prompt="Once upon a time", stream=True):
    print(chunk.choices[0].text, end="", flush=True)
print()"""
_EMBEDDING_PYTHON = """\
print(client.embeddings.create(model=MODEL, input="hello", encoding_format="float").data[0])"""

SAMPLES = (
    Sample(
        "chat/completions",
        {"messages": [{"role": "user", "content": "Hello!"}], "stream": True},
        _CHAT_PYTHON,
    ),
    Sample(
        "completions",
        {"prompt": "Once upon a time", "stream": True},
        _COMPLETION_PYTHON,
    ),
    Sample("embeddings", {"input": "hello"}, _EMBEDDING_PYTHON),
)
