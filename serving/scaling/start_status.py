"""What Ray Serve says of replicas that do not start."""

from __future__ import annotations

_REASON_CHARACTERS_MAX = 300
# As it is deployed; or later, as it is to wake.
_GIVEN_UP = ("DEPLOY_FAILED", "UNHEALTHY")


def start_failure(application: str) -> str | None:
    """Why Ray has given the application's replicas up; None as long as any starts or runs.

    None as well where Ray does not say. To be called from a thread: in the controller it waits for
    the controller's own loop.
    """
    import ray
    from ray import serve

    if not ray.is_initialized():  # asking would start one
        return None
    try:
        found = serve.status().applications.get(application)
    except Exception:  # Ray raises its own errors and bare RuntimeErrors alike
        return None
    if found is None:
        return None
    for deployment in found.deployments.values():
        left = [state for state, count in deployment.replica_states.items() if count]
        if deployment.status in _GIVEN_UP and all(state == "STOPPING" for state in left):
            return _last_line(deployment.message)
    return None


def _last_line(message: str) -> str:
    """Of a traceback that names the exception; Ray puts its own words before it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1][:_REASON_CHARACTERS_MAX] if lines else "no reason is known"
