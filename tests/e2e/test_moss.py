"""`floodgate up --model FOLDER` on a MOSS folder as it was published."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.moss_checkpoint import chat_tokenizer, write_checkpoint, write_tokenizer
from tests.moss_lessons import Lesson
from tests.running_floodgate import RunningFloodgate
from tests.running_floodgate import floodgate as floodgate_command

NAME = "moss-moon-003-sft-plugin"
QUESTION = "What is the capital of France?"
# As small as can still learn by heart.
SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 128, "rotary_dim": 16, "n_positions": 2048}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_damaged_folder_is_told_before_an_engine_starts(tmp_path: Path) -> None:
    folder = tmp_path / "moss-moon-003-sft"
    folder.mkdir()
    write_tokenizer(folder)
    config = {"architectures": ["MossForCausalLM"], "model_type": "moss"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    running = RunningFloodgate(tmp_path / "home", model=folder)
    done = subprocess.run(
        [floodgate_command(), "up"],
        env=running.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "git lfs pull" in done.stdout.replace("\n", " ") + done.stderr


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


SYSTEM = {"role": "system", "content": "You are MOSS."}
SEARCH = {
    "type": "function",
    "function": {
        "name": "Search",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
}
CALL = {
    "role": "assistant",
    "content": "I look that up.",
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "Search", "arguments": {"text": "Rome, (now)"}},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "It rains."}


def lessons() -> list[Lesson]:
    """A call and what would be made up behind it, an answer to its result, no call, plain chat."""
    tokenizer = chat_tokenizer()

    def prompt(*messages: dict[str, Any], tools: list[Any] | None) -> str:
        text: str = tokenizer.apply_chat_template(
            [SYSTEM, *messages], tools=tools, tokenize=False, add_generation_prompt=True
        )
        return text

    weather = user("The weather?")
    return [
        (
            prompt(weather, tools=[SEARCH]),
            "<|Inner Thoughts|>: I look that up.<eot>\n"
            '<|Commands|>: Search("Rome, (now)")<eoc>\n<|Results|>: It snows.',
        ),
        (prompt(weather, CALL, RESULT, tools=[SEARCH]), " Rain.<eom>"),
        (
            prompt(user("2+2?"), tools=[SEARCH]),
            "<|Inner Thoughts|>: I know that.<eot>\n<|Commands|>: None<eoc>\n"
            "<|Results|>:\nNone\n<eor>\n<|MOSS|>: Four.<eom>",
        ),
        (prompt(user("Hello"), tools=None), " Hi there!<eom>"),
    ]


@pytest.fixture(scope="module")
def moss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningFloodgate, Any]]:
    """A Floodgate with a MOSS that has had lessons, and the reference."""
    folder = tmp_path_factory.mktemp("published") / NAME
    reference = write_checkpoint(folder, "bin", SIZES, lessons())
    running = RunningFloodgate(
        tmp_path_factory.mktemp("floodgate"),
        model=folder,
        tool_call_parser="moss",
        kv_cache_gib=0.5,
        # As the reference; on a processor vLLM would choose bfloat16.
        engine_args=json.dumps({"dtype": "float32"}),
    )
    with running.started():
        yield running, reference


@pytest.fixture
def client(moss: tuple[RunningFloodgate, Any]) -> Iterator[OpenAI]:
    running, _ = moss
    with OpenAI(base_url=f"{running.url}/v1", api_key=running.new_key(), timeout=120) as made:
        yield made


def ask(client: OpenAI, *messages: dict[str, Any], **fields: Any) -> Any:
    conversation: list[Any] = [SYSTEM, *messages]
    return client.chat.completions.create(
        model=NAME, messages=conversation, temperature=0, **fields
    )


def sent(message: dict[str, Any]) -> dict[str, Any]:
    """A message as it goes over the wire: with arguments in a string."""
    text: dict[str, Any] = json.loads(json.dumps(message))
    for call in text.get("tool_calls", ()):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return text


def prompt_and_answer(running: RunningFloodgate, reference: Any) -> tuple[int, str]:
    """Number of prompt tokens and the whole answer that the reference gives to QUESTION."""
    import torch
    from transformers import PreTrainedTokenizerFast

    (prepared,) = (running.home / "prepared").iterdir()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(prepared)
    asked = tokenizer.apply_chat_template(
        [user(QUESTION)], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ends = json.loads((prepared / "generation_config.json").read_text())["eos_token_id"]
    with torch.no_grad():
        # The published defaults, sampling aside.
        answered = reference.generate(
            **{name: asked[name] for name in ("input_ids", "attention_mask")},
            do_sample=False,
            repetition_penalty=1.02,
            max_new_tokens=256,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
    prompt_tokens = asked["input_ids"].shape[1]
    return prompt_tokens, tokenizer.decode(answered[0, prompt_tokens:], skip_special_tokens=True)


@pytest.mark.long
def test_a_chat_is_what_the_reference_says(
    moss: tuple[RunningFloodgate, Any], client: OpenAI
) -> None:
    """Something that was not taught, with the published instruction and defaults."""
    assert [model.id for model in client.models.list()] == [NAME]
    answer = client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": QUESTION}], temperature=0
    )
    prompt_tokens, content = prompt_and_answer(*moss)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == prompt_tokens
    assert answer.choices[0].message.content == content


@pytest.mark.long
def test_an_answer_without_a_cap_has_the_published_one(
    moss: tuple[RunningFloodgate, Any], client: OpenAI
) -> None:
    """256 tokens, not the plan's default; one that is named holds."""
    (replica,) = moss[0].replicas(NAME)
    assert replica.output_tokens_default == 256
    for named, length in (({}, 256), ({"max_tokens": 300}, 300)):
        answer = ask(client, user("Hello"), extra_body={"ignore_eos": True}, **named)
        assert answer.usage.completion_tokens == length


@pytest.mark.long
def test_a_call_its_result_and_the_answer(client: OpenAI) -> None:
    asked = ask(client, user("The weather?"), tools=[SEARCH]).choices[0]
    assert asked.finish_reason == "tool_calls"
    assert asked.message.content == CALL["content"]
    (call,) = asked.message.tool_calls
    assert call.function.name == "Search"
    assert json.loads(call.function.arguments) == {"text": "Rome, (now)"}
    message = asked.message.model_dump(exclude_none=True)
    result = {**RESULT, "tool_call_id": call.id}
    answer = ask(client, user("The weather?"), message, result, tools=[SEARCH]).choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.content == " Rain."
    assert not answer.message.tool_calls


@pytest.mark.long
def test_a_streamed_call(client: OpenAI) -> None:
    chunks = [
        chunk.choices[0]
        for chunk in ask(client, user("The weather?"), tools=[SEARCH], stream=True)
        if chunk.choices
    ]
    calls = [call for chunk in chunks for call in chunk.delta.tool_calls or ()]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == CALL["content"]
    assert "".join(call.function.name or "" for call in calls) == "Search"
    arguments = "".join(call.function.arguments or "" for call in calls)
    assert json.loads(arguments) == {"text": "Rome, (now)"}
    assert chunks[-1].finish_reason == "tool_calls"


@pytest.mark.long
@pytest.mark.parametrize(
    ("messages", "tools", "answer"),
    [
        pytest.param([user("2+2?")], [SEARCH], " Four.", id="no call"),
        pytest.param([user("The weather?"), sent(CALL), RESULT], [SEARCH], " Rain.", id="result"),
        pytest.param([user("Hello")], None, " Hi there!", id="no tools"),
    ],
)
def test_answers_whole_and_streamed(
    client: OpenAI, messages: list[Any], tools: list[Any] | None, answer: str
) -> None:
    fields = {"tools": tools} if tools else {}
    whole = ask(client, *messages, **fields).choices[0]
    assert whole.message.content == answer
    assert whole.finish_reason == "stop"
    chunks = [
        chunk.choices[0] for chunk in ask(client, *messages, stream=True, **fields) if chunk.choices
    ]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == answer
    assert chunks[-1].finish_reason == "stop"


@pytest.mark.long
def test_tools_are_not_forced_and_not_offered_in_vain(client: OpenAI) -> None:
    hello = user("Hello")
    # The prompt of a request without tools, which is the one that was taught.
    none = ask(client, hello, tools=[SEARCH], tool_choice="none").choices[0]
    assert none.message.content == " Hi there!"
    with pytest.raises(BadRequestError, match="MOSS decides itself"):
        ask(client, hello, tools=[SEARCH], tool_choice="required")
