"""Counting with a tokenizer made here; the default model's: tests/contract/test_token_count.py."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from gateway.limits.model_tokenizer import ModelTokenizer
from gateway.limits.token_count import TokenCounter
from gateway.request.chat_form import ChatForm


@dataclass(frozen=True)
class Request:
    texts: tuple[str, ...]
    message_count: int = 0
    model: str = "m"
    choices: int = 1
    output_cap: int | None = None
    token_ids: int = 0
    media: int = 0
    chat_form: ChatForm | None = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of bytes and the one word `hello`."""
    made = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("he", "l"), ("hel", "l"), ("hell", "o")]
    vocab = {t: i for i, t in enumerate([*alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(made / "tokenizer.json"))
    return made


async def test_texts_are_counted_by_the_tokenizer_whole_and_without_padding(folder: Path) -> None:
    counter = TokenCounter(lambda _: str(folder))
    assert await counter.count(Request(("hello",))) == 1 + 1
    assert await counter.count(Request(("hello" * 50,))) == 50 + 1
    assert await counter.count(Request(())) == 0
    assert await counter.count(Request(("hello" * 5_000, "x"))) == 5_001 + 2, "in a thread"
    short, long = Request(("hello",) * 3), Request(("hello",) * 3, message_count=3)
    assert await counter.count(long) - await counter.count(short) >= 26 + 3 * 5


class Counting:
    """A tokenizer that notes what it was asked for."""

    def __init__(self, tokenizer: Any) -> None:
        self.texts: list[str] = []
        self._tokenizer = tokenizer

    def encode(self, text: str, **options: Any) -> Any:
        self.texts.append(text)
        return self._tokenizer.encode(text, **options)

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.texts += texts
        return self._tokenizer.encode_batch_fast(texts, **options)


async def test_of_a_conversation_that_goes_on_only_what_is_new_is_counted(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counting = Counting(tokenizer)
    counter = ModelTokenizer(counting)  # type: ignore[arg-type]
    assert await counter.counts(["hello", "xyz"]) == [1, 3]
    assert await counter.counts(["hello", "xyz", "hello!", "hello"]) == [1, 3, 2, 1]
    assert await counter.counts(["hello" * 2_000, "xyz", "hello" * 2_000]) == [2_000, 3, 2_000]
    assert await counter.counts(["hello" * 2_000]) == [2_000]
    assert counting.texts == ["hello", "xyz", "hello!", *["hello" * 2_000] * 2]


async def test_an_ask_holds_what_the_limits_need(folder: Path) -> None:
    ask = await TokenCounter(lambda _: str(folder)).ask(
        Request(("hello",), choices=3, output_cap=7), 8_192
    )
    assert (ask.model, ask.prompt_tokens, ask.choices, ask.output_cap) == ("m", 2, 3, 7)
    assert (ask.context_tokens_max, ask.context_tokens_filled) == (8_192, 2)


async def test_a_templates_own_instruction_counts_with_every_conversation(folder: Path) -> None:
    counter = TokenCounter(lambda _: str(folder))
    conversation = Request(("hello",), message_count=1)
    short = await counter.ask(conversation, 2_048, template_tokens=30)
    long = await counter.ask(conversation, 2_048, template_tokens=1_000)
    assert short.prompt_tokens == await counter.count(conversation), "within what is always added"
    assert long.prompt_tokens >= 1_000
    assert long.context_tokens_filled == long.prompt_tokens
    text = await counter.ask(Request(("hello",)), 2_048, template_tokens=1_000)
    assert text.prompt_tokens == 2, "no conversation, no template"


async def test_prompts_of_their_own_fill_the_context_one_at_a_time(folder: Path) -> None:
    counter = TokenCounter(lambda _: str(folder))
    prompts = ("hello" * 10, "hello" * 30, "hello")
    ask = await counter.ask(Request(prompts), 8_192)
    assert (ask.prompt_tokens, ask.context_tokens_filled) == (41 + 3, 30 + 3)
    ask = await counter.ask(Request(prompts, message_count=3), 8_192)
    assert ask.context_tokens_filled == ask.prompt_tokens
    assert await counter.count(Request((), token_ids=77)) == 77


TOOLS = [{"type": "function", "function": {"name": "f" * 90, "parameters": {}}}]
CALLED = ChatForm([{"role": "user", "content": "hello"}], TOOLS, None)


async def test_with_tools_the_template_is_rendered_and_counted_between_the_tokenizers_marks(
    folder: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|a|>", "<|a|>>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    source = "{% for m in messages %}<|a|>>{{ m.content }}<|a|>{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(source + "{{ tools[0].function.name * 2 }}")
    request = Request(("hello", "unlike what is rendered"), message_count=1, chat_form=CALLED)
    ask = await TokenCounter(lambda _: str(tmp_path)).ask(request, 8_192, template_tokens=500)
    assert ask.prompt_tokens == ask.context_tokens_filled == 1 + 1 + 1 + 180 + 1
    many = Request((), message_count=100, chat_form=ChatForm([*CALLED.messages] * 100, TOOLS, None))
    counted = await TokenCounter(lambda _: str(tmp_path)).count(many)
    assert counted == 300 + 180 + 100, "in a thread"


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no') }}"])
async def test_tools_that_cannot_be_rendered_have_room(
    folder: Path, tmp_path: Path, template: str | None
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)
    plain = Request(("hello",), message_count=1)
    called = Request(("hello",), message_count=1, chat_form=CALLED)
    for path in (str(tmp_path), ""):
        counter = TokenCounter(lambda _, path=path: path)  # type: ignore[misc]
        assert await counter.count(called) >= await counter.count(plain) + 300


async def test_media_cost_what_the_setting_says_within_the_context() -> None:
    counter = TokenCounter(lambda _: "", media_tokens=1_000)
    text = (await counter.ask(Request(("hello",), message_count=1), 8_000)).prompt_tokens
    two = await counter.ask(Request(("hello",), message_count=1, media=2), 8_000)
    assert two.prompt_tokens == text + 2_000
    many = await counter.ask(Request(("hello",), message_count=1, media=50), 8_000)
    assert many.prompt_tokens == text + 8_000, "the engine takes no more than its context"
    assert many.context_tokens_filled is not None
    assert 4_000 <= many.context_tokens_filled < 4_100, "an answer has room"
    unknown = await counter.ask(Request(("hello",), message_count=1, media=50), None)
    assert unknown.prompt_tokens == text + 50_000


@pytest.mark.parametrize("kind", ["none", "no folder", "no file", "broken"])
async def test_without_a_tokenizer_bytes_are_counted(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "broken":
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 7}))
    path = {"none": "", "no folder": str(tmp_path / "gone")}.get(kind, str(tmp_path))
    counter = TokenCounter(lambda _: path)
    for _ in range(3):
        ask = await counter.ask(Request(("東京", "abc")), 8_192)
    assert ask.prompt_tokens == 6 + 3 + 2
    assert ask.context_tokens_filled == 2 + 2
    assert capsys.readouterr().out.count("tokenizer_unusable") == (kind != "none")


@given(texts=st.lists(st.text(st.characters(codec=None), max_size=50), max_size=5))
async def test_any_text_is_counted_and_never_above_its_bytes(
    folder: Path, texts: list[str]
) -> None:
    request = Request((*texts, "\ud800 lone"))
    counted = await TokenCounter(lambda _: str(folder)).count(request)
    assert counted <= await TokenCounter(lambda _: "").count(request)
