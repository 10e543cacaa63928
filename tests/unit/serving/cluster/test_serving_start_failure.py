"""One line that says why an engine did not start, out of pages that do not."""

from pathlib import Path

from serving.cluster.start_failure import failed_first, reasons_in, start_failure_reason

RAY_ROOT_CAUSE = """\
Deploying app 'floodgate' failed: A replica failed to start with exception. Traceback:
ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task
  File "vllm/v1/engine/utils.py", line 1301, in wait_for_engine_startup
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
ENGINE_LOG = """\
\x1b[36m(EngineCore pid=7)\x1b[0m ERROR 11-23 [core.py:1] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-23 [core.py:1] ValueError: No memory for the KV cache.
Process EngineCore:
ValueError: No memory for the KV cache.
RuntimeError: Engine core initialization failed. See root cause above.
"""
CONTROLLER_LOG = """\
ERROR controller 21761 -- Exception in Replica(id='cs06ectw'), the replica will be stopped.
ray.exceptions.RayTaskError(RuntimeError): ray::ServeReplica.initialize() (pid=21846, ip=127.0.0.1)
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "ray/serve/_private/replica.py", line 1867, in initialize
    await self._user_callable_wrapper.initialize_callable()
RuntimeError: Engine core initialization failed. See root cause above.
"""
PYDANTIC = """\
ray::ServeReplica.initialize() (pid=1, ip=127.0.0.1)
RuntimeError: Failed to create vLLM engine config: 1 validation error for ModelConfig
  Value error, max_model_len (999999) is greater than 8192. [type=value_error]
    For further information visit https://errors.pydantic.dev
"""


def test_the_cause_stands_in_the_engines_log() -> None:
    reason = start_failure_reason(RAY_ROOT_CAUSE, ["nothing here", ENGINE_LOG])
    assert reason == "ValueError: No memory for the KV cache."


def test_what_serve_makes_of_the_cause_is_not_the_cause() -> None:
    reason = start_failure_reason(RAY_ROOT_CAUSE, [CONTROLLER_LOG, ENGINE_LOG])
    assert reason == "ValueError: No memory for the KV cache."


def test_the_log_of_the_process_that_failed_is_read_first() -> None:
    """Another model's may have failed too."""
    names = ["worker-1a-01000000-21761.err", "worker-9f-01000000-21846.err"]
    logs = failed_first(map(Path, names), CONTROLLER_LOG)
    assert [path.name for path in logs] == names[::-1]


def test_without_a_log_rays_words_are_kept() -> None:
    assert "Engine core initialization failed" in start_failure_reason(RAY_ROOT_CAUSE, [])


def test_the_lines_below_belong_to_the_reason() -> None:
    reason = start_failure_reason(PYDANTIC, [])
    assert reason.endswith("max_model_len (999999) is greater than 8192. [type=value_error]")


def test_other_logs_are_not_searched_when_ray_knows() -> None:
    assert "999999" in start_failure_reason(PYDANTIC, [ENGINE_LOG])


def test_a_message_without_an_exception_is_passed_on() -> None:
    assert start_failure_reason(" no resources\n", [ENGINE_LOG]) == "no resources"


def test_reasons_are_bounded() -> None:
    assert len(reasons_in("ValueError: " + "x" * 10_000)[0]) == 600
