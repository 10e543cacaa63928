"""OpenAI's own Python SDK against a real model behind the gate."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from tests.running_floodgate import MODEL, RunningFloodgate
from waitlist.proofs.tokens import new_api_key

pytestmark = [pytest.mark.contract, pytest.mark.timeout(180)]

FRANCE: list[openai.types.chat.ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France?"}
]


@pytest.fixture
async def client(floodgate: RunningFloodgate, api_key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=floodgate.url + "/v1", api_key=api_key) as made:
        yield made


async def test_a_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=FRANCE, temperature=0, max_tokens=20
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream_says_the_same_as_the_whole_answer(client: openai.AsyncOpenAI) -> None:
    # Many tokens: vLLM puts those into one chunk that a busy machine fetches late.
    go_on = {"ignore_eos": True}
    whole = await client.chat.completions.create(
        model=MODEL, messages=FRANCE, temperature=0, max_tokens=64, extra_body=go_on
    )
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=FRANCE,
        temperature=0,
        max_tokens=64,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=go_on,
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 5, "tokens come one by one"
    assert chunks[-1].usage == whole.usage


async def test_several_choices_and_logprobs(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=FRANCE, n=2, max_tokens=5, logprobs=True, top_logprobs=2
    )
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs is not None


async def test_a_tool_call(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        temperature=0,
        max_tokens=60,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "parameters": {
                        "type": "object",
                        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
                        "required": ["city"],
                        "additionalProperties": False,
                    },
                },
            }
        ],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert calls[0].function.name == "weather"


async def test_a_completion(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=4)
    assert answer.choices[0].text


async def test_the_responses_api(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(
        model=MODEL,
        input="What is the capital of France?",
        temperature=0,
        max_output_tokens=20,
        store=False,
    )
    assert "Paris" in answer.output_text
    events = await client.responses.create(
        model=MODEL, input="Say hello.", max_output_tokens=8, stream=True
    )
    kinds = [event.type async for event in events]
    assert kinds[0] == "response.created"
    assert "response.output_text.delta" in kinds
    assert kinds[-1] in ("response.completed", "response.incomplete")


async def test_stored_responses_are_refused_clearly(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.responses.create(model=MODEL, input="x", store=True)
    assert (refusal.value.code, refusal.value.param) == ("unsupported_parameter", "store")
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).id == MODEL


async def test_each_error_is_the_sdks_own_class(
    client: openai.AsyncOpenAI, floodgate: RunningFloodgate
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="other", messages=FRANCE)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as unable:
        await client.embeddings.create(model=MODEL, input="x")
    assert unable.value.code == "endpoint_not_supported"
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=-3)
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}]
        )
    stranger = client.with_options(api_key=new_api_key())
    with pytest.raises(openai.AuthenticationError) as unknown:
        await stranger.chat.completions.create(model=MODEL, messages=FRANCE)
    assert unknown.value.code == "invalid_api_key"


async def test_cancelling_a_call_frees_the_engine(
    client: openai.AsyncOpenAI, floodgate: RunningFloodgate
) -> None:
    call = asyncio.create_task(
        client.chat.completions.create(
            model=MODEL, messages=FRANCE, max_tokens=4000, extra_body={"ignore_eos": True}
        )
    )
    await floodgate.until_engine(running=1)
    call.cancel()
    await floodgate.until_engine(running=0)


async def test_closing_a_stream_frees_the_engine(
    client: openai.AsyncOpenAI, floodgate: RunningFloodgate
) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=FRANCE,
        max_tokens=4000,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    async for _ in stream:
        break
    assert floodgate.engine_metric("vllm:num_requests_running") == 1
    await stream.close()
    await floodgate.until_engine(running=0)
