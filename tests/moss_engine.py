"""A real vLLM engine on a MOSS folder, in a process of its own.

`python -m tests.moss_engine FOLDER OPTIONS` loads it with vLLM's engine arguments, a JSON object,
and answers each line of JSON on its input with one on its output.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Eager, in float32 as the reference; steps of 64 tokens, so that longer prompts are prefilled in
# chunks beside running answers.
_OPTIONS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 64,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "gpu_memory_utilization": 0.05,
    "kv_cache_memory_bytes": 128 * 2**20,
    "max_logprobs": -1,
    "logprobs_mode": "raw_logits",
    "disable_log_stats": False,
    "seed": 0,
}
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "GLOO_SOCKET_IFNAME": "lo",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOOPBACK_IP": "127.0.0.1",
}


class MossEngine:
    """Started on entry; every method is one exchange of lines."""

    def __init__(self, folder: Path, log: Path, **options: Any) -> None:
        self._argv = [sys.executable, "-m", "tests.moss_engine", str(folder)]
        self._argv.append(json.dumps(_OPTIONS | options))
        self._log = log
        # The workers of tensor parallelism are processes anyway; one rank saves its own.
        alone = {} if "tensor_parallel_size" in options else {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        self._environment = os.environ | _ENVIRONMENT | alone

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv,
                env=self._environment,
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._exchange({})
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # The input ends, and with it the engine; leaving the process closes its pipes.
        with self._process:
            try:
                self._process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def greedy(
        self, prompts: list[list[int]], tokens: int, *, logits: bool = False
    ) -> list[dict[str, Any]]:
        """All prompts at once. Of each: `tokens`, `cached` prompt tokens, and `logits` if asked.

        Logits are a list per token, one number for each token of the vocabulary.
        """
        request = {"prompts": prompts, "tokens": tokens, "logits": logits}
        outputs: list[dict[str, Any]] = self._exchange(request)["outputs"]
        return outputs

    def _exchange(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        # Whatever vLLM prints besides goes elsewhere; see main.
        line = self._process.stdout.readline()
        assert line, f"the engine ended:\n{self._log.read_text(errors='replace')[-4000:]}"
        return json.loads(line)


def main(folder: str, options: str) -> None:
    """Load and answer until the input ends."""
    # vLLM and its workers print to standard output too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM

    llm = LLM(folder, **json.loads(options))
    for line in sys.stdin:
        request = json.loads(line)
        outputs = _greedy(llm, request) if request else []
        answers.write(json.dumps({"outputs": outputs}) + "\n")
        answers.flush()


def _greedy(llm: Any, request: dict[str, Any]) -> list[dict[str, Any]]:
    from vllm import SamplingParams, TokensPrompt

    parameters = SamplingParams(
        temperature=0.0,
        max_tokens=request["tokens"],
        ignore_eos=True,
        detokenize=False,
        logprobs=-1 if request["logits"] else None,
    )
    prompts = [TokensPrompt(prompt_token_ids=prompt) for prompt in request["prompts"]]
    return [
        {
            "tokens": list(output.outputs[0].token_ids),
            "cached": output.num_cached_tokens,
            "logits": [
                [step[token].logprob for token in range(len(step))]
                for step in output.outputs[0].logprobs or ()
            ],
        }
        for output in llm.generate(prompts, parameters, use_tqdm=False)
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
