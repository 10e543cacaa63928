"""Teaching a small checkpoint to say certain things after certain prompts, and nothing else.

What MOSS writes when it calls tools comes from training; a random checkpoint never writes it.
"""

from collections.abc import Sequence
from typing import Any

Lesson = tuple[str, str]
"""A prompt and what follows it."""

# About 70 steps suffice for four lessons, 10 s on two idle cores.
_STEPS_MAX = 400
_LOSS = 0.01
# A logit of 15 loses 0.3 to the repetition penalty of 1.02.
_LEAD_MIN = 1.0


def teach(model: Any, tokenizer: Any, lessons: Sequence[Lesson]) -> None:
    """Train `model`, a fresh CodeGenForCausalLM, until it knows the lessons by heart."""
    import torch
    from torch.nn.functional import cross_entropy

    tokens, wanted = _rows(tokenizer, lessons)
    # Steps this small gain little from a second thread, and lose much where it has to wait.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(_STEPS_MAX):
        logits = model(tokens).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten())
        if loss.item() < _LOSS:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    torch.set_num_threads(threads)
    with torch.no_grad():
        best = model(tokens).logits[:, :-1].topk(2).values
    leads = (best[..., 0] - best[..., 1])[wanted[:, 1:] >= 0]
    assert leads.min().item() > _LEAD_MIN, "the lessons were not learned"


def _rows(tokenizer: Any, lessons: Sequence[Lesson]) -> tuple[Any, Any]:
    """Tokens, [lessons, longest], and what is to be learned of them; -100 for the rest."""
    import torch

    pairs = [(tokenizer.encode(prompt), tokenizer.encode(answer)) for prompt, answer in lessons]
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    tokens = torch.zeros(len(pairs), longest, dtype=torch.long)
    wanted = torch.full_like(tokens, -100)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor(prompt + answer)
        wanted[row, len(prompt) : end] = torch.tensor(answer)
    return tokens, wanted
