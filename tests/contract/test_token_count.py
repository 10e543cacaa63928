"""The gateway's count beside what the default model's own chat template makes."""

import json
import random
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.home import Home
from deploy.launcher import model
from deploy.launcher.stop_signal import StopSignal
from gateway.limits.token_count import TokenCounter
from gateway.request.request_policy import view_request
from serving.moss.folder import CHAT_TEMPLATE
from tests.prompts_with_tools import SHAPES, chat, endpoint_of
from tests.running_floodgate import shared_cache

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

TEMPLATES = Path(__file__).parents[1] / "fixtures" / "chat_templates"
_PIECES = (
    *("the", "Paris", "ünïcode", "東京", "🙂", "عربي", "x=1;", "don't", "1234567", "def f():"),
    *("<|im_end|>", "<|im_start|>", " ", "  ", "\t", "\n", "\n\n", "", " \n "),
)


@dataclass(frozen=True)
class Conversation:
    """As gateway.request.request_policy views it."""

    messages: list[dict[str, str]]
    model: str = model.NAME
    choices: int = 1
    output_cap: int | None = None
    token_ids: int = 0
    media: int = 0
    chat_form: None = None

    @property
    def texts(self) -> list[str]:
        return [message["content"] for message in self.messages]

    @property
    def message_count(self) -> int:
        return len(self.messages)


@pytest.fixture(scope="module")
def folder() -> Path:
    cache = Path(shared_cache()).absolute()
    return model.prepare(Home(cache, cache), StopSignal(), lambda _: None)


def template_counts(folder: Path) -> Callable[..., int]:
    """(messages, tools) → tokens, as transformers counts them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's, while they import
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def count(messages: list[dict[str, Any]], tools: list[Any] | None = None) -> int:
        made = tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=True, tokenize=True
        )
        return len(made["input_ids"])

    return count


def conversations(count: int) -> list[Conversation]:
    draw = random.Random(20)
    found = [
        Conversation([{"role": "user", "content": ""}]),
        Conversation([{"role": "system", "content": ""}]),
        Conversation([{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}]),
        Conversation([{"role": "user", "content": "\n"}] * 100),
        Conversation([{"role": "user", "content": "word " * 1_500}]),
    ]
    while len(found) < count:
        roles = ["user", "assistant"] * draw.choice((1, 2, 5, 20))
        if draw.random() < 0.5:
            roles.insert(0, "system")
        messages = []
        for role in roles[: draw.randint(1, len(roles))]:
            length, glue = draw.choice((0, 1, 5, 30, 150)), draw.choice(("", " "))
            text = glue.join(draw.choices(_PIECES, k=length))
            messages.append({"role": role, "content": text})
        found.append(Conversation(messages))
    return found


async def test_the_count_is_never_below_the_templates_and_little_above(
    folder: Path,
) -> None:
    counter, template_tokens = TokenCounter(lambda _: str(folder)), template_counts(folder)
    for conversation in conversations(400):
        true = template_tokens(conversation.messages)
        counted = await counter.count(conversation)
        assert true <= counted <= true + 45 + 5 * conversation.message_count, conversation


def as_the_engine_reads(body: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Messages and tools as vLLM gives them to a template: arguments are objects, parts a text."""
    read = json.loads(json.dumps(body))
    for message in read["messages"]:
        if isinstance(message["content"], list):
            message["content"] = "\n".join(part["text"] for part in message["content"])
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return read["messages"], read["tools"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("template", ["own", "tools in JSON", "MOSS"])
async def test_tools_calls_and_results_are_counted_as_the_template_writes_them(
    folder: Path, tmp_path: Path, template: str, shape: str
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        shutil.copy(folder / name, tmp_path / name)
    if template != "own":
        source = TEMPLATES / "tools_in_json.jinja" if template == "tools in JSON" else CHAT_TEMPLATE
        shutil.copy(source, tmp_path / "chat_template.jinja")
    body = SHAPES[shape](chat(model.NAME))
    view = view_request(endpoint_of("chat/completions"), orjson.dumps(body))
    true = template_counts(tmp_path)(*as_the_engine_reads(body))
    counted = await TokenCounter(lambda _: str(tmp_path)).count(view)
    assert true <= counted <= true + len(body["messages"])
