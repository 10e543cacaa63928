"""MOSS's commands as vLLM serves them: its own parsers, requests and detokenizer, no engine.

A random checkpoint writes no commands, so what MOSS would write is given here, token by token.
"""

import json
import zipfile
from importlib.metadata import entry_points
from typing import Any

import pytest

from serving.ready_model import engine_folder
from tests.moss_checkpoint import SMALL, published_config, write_tokenizer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CALLING = (
    "<|Inner Thoughts|>: I should look.<eot>\n"
    '<|Commands|>: Search("Rome, now"), weather("Rome", 3)<eoc>'
)
NOT_CALLING = (
    "<|Inner Thoughts|>: I know that.<eot>\n<|Commands|>: None<eoc>\n"
    "<|Results|>:\nNone\n<eor>\n<|MOSS|>: It is  4.<eom>"
)
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": properties}},
    }
    for name, properties in {
        "Search": {"query": {"type": "string"}},
        "weather": {"city": {"type": "string"}, "days": {"type": "integer"}},
    }.items()
]
CALLS = [
    ("Search", {"query": "Rome, now"}),
    ("weather", {"city": "Rome", "days": 3}),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """MOSS's tokenizer as vLLM loads it from the prepared folder."""
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("published")
    (folder / "config.json").write_text(
        json.dumps(published_config(write_tokenizer(folder), **SMALL))
    )
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"FloatStorage")
    prepared = engine_folder(str(folder), tmp_path_factory.mktemp("home"))
    return PreTrainedTokenizerFast.from_pretrained(prepared)


def request(**fields: Any) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    messages = [{"role": "user", "content": "Hi"}]
    return ChatCompletionRequest(messages=messages, model="moss", tools=TOOLS, **fields)


def parser(tokenizer: Any, chat: Any) -> Any:
    """vLLM's parser of one request, found by the name that FLOODGATE_TOOL_CALL_PARSER has."""
    from vllm.parser.parser_manager import ParserManager
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    kind = ParserManager.get_parser(tool_parser_name="moss", enable_auto_tools=True)
    assert kind is not None
    return kind(tokenizer, chat.tools)


def read(calls: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, json.loads(call.arguments)) for call in calls]


def test_vllm_is_told_of_moss_by_the_installed_package() -> None:
    names = {point.name: point.value for point in entry_points(group="vllm.general_plugins")}
    assert names.get("floodgate_moss") == "serving.moss.plugin:register", (
        "floodgate is installed without its entry points: pip install -e ."
    )


def test_calls_with_the_thoughts_beside_them(tokenizer: Any) -> None:
    chat = request()
    _, content, calls = parser(tokenizer, chat).parse(CALLING, chat, enable_auto_tools=True)
    assert content == "I should look."
    assert read(calls) == CALLS


@pytest.mark.parametrize("output", [NOT_CALLING, " It is  4.<eom>"])
def test_an_answer_without_its_marks(tokenizer: Any, output: str) -> None:
    chat = request()
    _, content, calls = parser(tokenizer, chat).parse(output, chat, enable_auto_tools=True)
    assert content == " It is  4."
    assert not calls


def stream(tokenizer: Any, output: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Contents and calls of a stream whose every piece is one token."""
    chat = request(stream=True)
    reader = parser(tokenizer, chat)
    contents: list[str] = []
    calls: list[tuple[str, str]] = []
    ids = tokenizer.encode(output)
    for number, token in enumerate(ids, start=1):
        delta = reader.parse_delta(
            tokenizer.decode([token]), [token], chat, [1], finished=number == len(ids)
        )
        if delta is not None and delta.content:
            contents.append(delta.content)
        for call in delta.tool_calls if delta is not None else ():
            assert call.index == len(calls)
            assert call.id
            calls.append((call.function.name, call.function.arguments))
    return contents, calls


def test_streamed_calls(tokenizer: Any) -> None:
    contents, calls = stream(tokenizer, CALLING)
    assert contents == ["I should look."]
    assert [(name, json.loads(arguments)) for name, arguments in calls] == CALLS


@pytest.mark.parametrize("output", [NOT_CALLING, " It is  4.<eom>"])
def test_a_streamed_answer(tokenizer: Any, output: str) -> None:
    contents, calls = stream(tokenizer, output)
    assert "".join(contents) == " It is  4."
    assert len(contents) > 4
    assert not calls


def generate(tokenizer: Any, output: str) -> tuple[str, str | None]:
    """What vLLM's detokenizer makes of an output, and the string that stopped it."""
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    chat = request()
    adjusted = parser(tokenizer, chat).adjust_request(chat)
    parameters = adjusted.to_sampling_params(2048, {})
    asked = EngineCoreRequest(
        request_id="1",
        prompt_token_ids=[1],
        mm_features=None,
        sampling_params=parameters,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, asked)
    stopped = None
    for token in tokenizer.encode(output):
        stopped = detokenizer.update([token], token == tokenizer.eos_token_id)
        if stopped:
            break
    return detokenizer.get_next_output_text(True, False), stopped


def test_a_generation_ends_behind_calls(tokenizer: Any) -> None:
    text, stopped = generate(tokenizer, CALLING + "\n<|Results|>:\nmade up")
    assert stopped == ")<eoc>"
    assert text == CALLING


def test_a_generation_goes_on_behind_none(tokenizer: Any) -> None:
    text, stopped = generate(tokenizer, NOT_CALLING)
    assert stopped is None
    assert text == NOT_CALLING


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "Search"}}]
)
def test_moss_is_not_forced(tokenizer: Any, choice: Any) -> None:
    chat = request(tool_choice=choice)
    with pytest.raises(ValueError, match="MOSS decides itself"):
        parser(tokenizer, chat).adjust_request(chat)


def test_the_callers_own_stops_stay(tokenizer: Any) -> None:
    for stop in ("END", ["END"]):
        chat = request(stop=stop)
        assert parser(tokenizer, chat).adjust_request(chat).stop == ["END", ")<eoc>"]


def test_the_responses_api_too(tokenizer: Any) -> None:
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    tools = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]
    asked = ResponsesRequest(model="moss", input="Hi", tools=tools)
    reader = parser(tokenizer, asked)
    adjusted = reader.adjust_request(asked)
    assert adjusted.to_sampling_params(2048, {}).stop == [")<eoc>"]
    assert not adjusted.skip_special_tokens
    _, content, calls = reader.parse(CALLING, asked, enable_auto_tools=True)
    assert content == "I should look."
    assert read(calls) == CALLS
