"""A real vLLM engine on a MOSS checkpoint says what the published architecture says.

The reference is transformers' CodeGen with the same weights, asked for all positions at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.models.model_folder import check_model
from serving.ready_model import engine_folder
from tests.moss_checkpoint import SMALL, WIDE, Layout, write_checkpoint
from tests.moss_engine import MossEngine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

# Longer than a step of 64 tokens, than a cached block of 128, than both, and neither.
PROMPT_TOKENS = (300, 3, 64, 129, 17, 200, 130, 65)
GREEDY_TOKENS = 200
# 2e-5 of the largest logits, which are about 30: what two orders of adding in float32 leave. Heads
# in a wrong order, or a rotation of the wrong pairs, leave differences of about 10.
LOGIT_DIFFERENCE_MAX = 6e-4

Served = tuple[MossEngine, Any]


@contextmanager
def serve(folder: Path, layout: Layout, sizes: dict[str, int], **options: Any) -> Iterator[Served]:
    """An engine on a new checkpoint, and the checkpoint's reference."""
    published = folder / "published"
    reference = write_checkpoint(published, layout, sizes)
    check_model(str(published))
    prepared = engine_folder(str(published), folder / "home")
    with MossEngine(Path(prepared), folder / "engine.log", **options) as engine:
        yield engine, reference


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The engine that the usual tests share: the published layout, one process.

    The checkpoint's Python files fail when they are imported, so none of them is.
    """
    with serve(tmp_path_factory.mktemp("moss"), "bin", SMALL) as served:
        yield served


def prompt(tokens: int, *, seed: int = 0) -> list[int]:
    return [(position * 37 + position // 7 + seed * 101) % 300 for position in range(tokens)]


def reference_logits(reference: Any, asked: list[int], answered: list[int]) -> Any:
    """Of each answered token, [tokens, vocabulary]."""
    import torch

    with torch.no_grad():
        logits = reference(torch.tensor([asked + answered[:-1]])).logits[0]
    return logits[len(asked) - 1 :]


def assert_greedy(reference: Any, asked: list[int], answered: list[int]) -> None:
    """Each token is the reference's best after all before it."""
    assert len(answered) == GREEDY_TOKENS
    best = reference_logits(reference, asked, answered).argmax(-1).tolist()
    assert answered == best
    assert len(set(answered)) > 10, "the checkpoint repeats itself: this would prove little"


def assert_same_logits(reference: Any, asked: list[int], output: dict[str, Any]) -> None:
    import torch

    expected = reference_logits(reference, asked, output["tokens"])
    difference = (torch.tensor(output["logits"]) - expected).abs().max().item()
    assert difference < LOGIT_DIFFERENCE_MAX
    assert expected.std() > 1


def assert_all(engine: MossEngine, reference: Any) -> None:
    """Logits, then greedy tokens of a batch of mixed lengths, then the same from the cache."""
    prompts = [prompt(tokens, seed=tokens) for tokens in PROMPT_TOKENS]
    for asked, output in zip(prompts, engine.greedy(prompts, 8, logits=True), strict=True):
        assert_same_logits(reference, asked, output)
    outputs = engine.greedy(prompts, GREEDY_TOKENS)
    for asked, output in zip(prompts, outputs, strict=True):
        assert_greedy(reference, asked, output["tokens"])
    again = engine.greedy(prompts, GREEDY_TOKENS)
    assert [output["tokens"] for output in again] == [output["tokens"] for output in outputs]
    # Whole blocks of 128, and never the last token, which has to be computed for its logits.
    assert [output["cached"] for output in again] == [
        (tokens - 1) // 128 * 128 for tokens in PROMPT_TOKENS
    ]


def test_logits_equal_the_reference(served: Served) -> None:
    engine, reference = served
    prompts = [prompt(300), prompt(5)]
    for asked, output in zip(prompts, engine.greedy(prompts, 8, logits=True), strict=True):
        assert_same_logits(reference, asked, output)


def test_greedy_tokens_of_a_batch_prefilled_in_chunks(served: Served) -> None:
    engine, reference = served
    prompts = [prompt(tokens, seed=1) for tokens in PROMPT_TOKENS]
    for asked, output in zip(prompts, engine.greedy(prompts, GREEDY_TOKENS), strict=True):
        assert_greedy(reference, asked, output["tokens"])


def test_greedy_tokens_behind_a_cached_prefix(served: Served) -> None:
    engine, reference = served
    shared = prompt(290, seed=2)
    engine.greedy([shared], 1)
    prompts = [shared + prompt(tokens, seed=3 + tokens) for tokens in (1, 20, 150)]
    outputs = engine.greedy(prompts, GREEDY_TOKENS)
    assert [output["cached"] for output in outputs] == [256, 256, 256]
    for asked, output in zip(prompts, outputs, strict=True):
        assert_greedy(reference, asked, output["tokens"])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("layout", "sizes", "options"),
    [
        pytest.param("safetensors", SMALL, {}, id="safetensors"),
        pytest.param("bin", WIDE, {}, id="heads as published"),
        pytest.param("bin", SMALL, {"tensor_parallel_size": 2}, id="two ranks"),
        pytest.param(
            "safetensors", WIDE, {"tensor_parallel_size": 2}, id="heads as published on two ranks"
        ),
        pytest.param("bin", SMALL, {"enforce_eager": False}, id="compiled"),
    ],
)
def test_every_way_of_serving(
    tmp_path: Path, layout: Layout, sizes: dict[str, int], options: dict[str, Any]
) -> None:
    with serve(tmp_path, layout, sizes, **options) as (engine, reference):
        assert_all(engine, reference)
