import json

import pytest

from loadtests.engine_simulator.generation_request import RequestRefused, read_request


def read(is_chat: bool = False, **body: object) -> tuple[list[int], int]:
    request = read_request(json.dumps(body).encode(), is_chat=is_chat)
    return request.prompts, request.choices


def test_a_chat_counts_its_messages_and_their_text() -> None:
    message = {"role": "user", "content": "x" * 40}
    assert read(True, messages=[message, message]) == ([30], 1)


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("x" * 40, [10]),
        (["x" * 40, "y"], [10, 1]),
        ([1, 2, 3], [3]),
        ([[1, 2, 3], [4]], [3, 1]),
    ],
)
def test_each_form_of_prompt_is_counted(prompt: object, tokens: list[int]) -> None:
    assert read(prompt=prompt, n=3) == (tokens, 3)


@pytest.mark.parametrize(
    "body", [{"messages": []}, {"max_tokens": 0}, {"n": 0}, {"prompt": {"a": 1}}]
)
def test_what_vllm_would_refuse_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(RequestRefused):
        read(True, **body)
    with pytest.raises(RequestRefused):
        read_request(b"{", is_chat=True)


def test_the_newer_name_of_the_cap_is_taken_first() -> None:
    body = json.dumps({"prompt": "x", "max_tokens": 5, "max_completion_tokens": 7}).encode()
    assert read_request(body, is_chat=False).output_cap == 7
