"""How Hypothesis runs here."""

from hypothesis import HealthCheck, settings

# No timed assertions: how long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
