"""Where the seconds of a start go."""

from serving.engine.start_steps import StartSteps


def test_each_step_has_what_passed_since_the_one_before() -> None:
    times = iter([100.0, 106.04, 130.0, 130.0])
    steps = StartSteps(lambda: next(times))
    for name in ("import vLLM", "start engine", "build API"):
        steps.done(name)
    assert steps.seconds == {"import vLLM": 6.0, "start engine": 24.0, "build API": 0.0}
