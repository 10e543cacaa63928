"""What an engine's steps cost and what fits into it, as a JSON file. Pure but for reading it.

A step takes a + b * sequences in it + c * prompt tokens in it: `step_base_s`, `step_sequence_s`,
`step_prefill_token_s`. All seconds are the engine's own: the clock scale is applied elsewhere.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtests.errors import BenchError

PROFILES = Path(__file__).parent.parent / "profiles"


class EngineProfile(BaseModel):
    """One engine on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str = Field(description="How the figures were come by: measured where, or assumed.")
    step_base_s: float = Field(ge=0, description="What any step takes.")
    step_sequence_s: float = Field(ge=0, description="Added by each sequence in the step.")
    step_prefill_token_s: float = Field(ge=0, description="Added by each prompt token in it.")
    request_s: float = Field(0.0, ge=0, description="From a request's arrival to the scheduler.")
    request_spread_s: float = Field(
        0.0, ge=0, description="Added to that: anything from 0 to this, evenly drawn."
    )
    sequences_max: int = Field(ge=1, description="vLLM's max_num_seqs: the batch limit.")
    step_tokens_max: int = Field(ge=1, description="vLLM's max_num_batched_tokens.")
    kv_tokens: int = Field(ge=16, description="Tokens that the KV cache holds.")
    block_tokens: int = Field(16, ge=1, description="Tokens of one KV block.")
    context_tokens_max: int = Field(ge=1, description="Longest prompt and answer together.")

    def step_s(self, sequences: int, prefill_tokens: int) -> float:
        """Seconds that a step with so many sequences and prompt tokens takes."""
        return (
            self.step_base_s
            + self.step_sequence_s * sequences
            + self.step_prefill_token_s * prefill_tokens
        )

    @property
    def kv_blocks(self) -> int:
        """Blocks of the KV cache."""
        return self.kv_tokens // self.block_tokens


def load_profile(name_or_path: str) -> EngineProfile:
    """A profile of loadtests/profiles by name, or any file by path.

    Raises:
        BenchError: there is none, or it is malformed; the message says where.
    """
    path = Path(name_or_path)
    if path.suffix != ".json":
        path = PROFILES / f"{name_or_path}.json"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(sorted(found.stem for found in PROFILES.glob("*.json")))
        raise BenchError(f"no profile {name_or_path!r} ({error}); there are: {known}") from error
    try:
        return EngineProfile.model_validate_json(text)
    except ValidationError as error:
        raise BenchError(f"{path}: {error}") from error
