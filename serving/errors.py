"""What can go wrong while the engine is started.

ServingError
├── ModelUnusable        the model's folder is missing, incomplete or damaged
├── SettingsConflict     settings that cannot be met on this machine
├── StartFailed          a replica stopped while starting; carries the engine's own reason
├── StartTimedOut        the replicas were not ready within start_s_max
└── HostFailed           Ray itself could not be started, or was lost
"""

from __future__ import annotations


class ServingError(Exception):
    """Base of all errors that serving raises on purpose. `str()` is a message for the operator."""


class ModelUnusable(ServingError):
    """The model cannot be loaded, and this was seen without starting an engine."""


class SettingsConflict(ServingError):
    """The settings contradict each other or ask for what this machine does not have."""


class StartFailed(ServingError):
    """A replica could not start. The message ends with the engine's own reason."""


class StartTimedOut(ServingError):
    """The replicas were still not ready after `start_s_max` seconds."""


class HostFailed(ServingError):
    """Ray could not be started, or stopped answering."""
