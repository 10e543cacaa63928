"""What can go wrong while Floodgate is set up, started, stopped or asked.

    DeployError
    ├── SetupFailed      a package, the network, the disk: the set-up could not go on
    ├── MachineTooSmall  not enough memory or disk
    ├── AlreadyRunning   another launcher holds this FLOODGATE_HOME
    ├── NotRunning       the command needs a running Floodgate, and there is none
    ├── PortTaken        somebody else listens on the port
    ├── ModelFailed      the default model could not be fetched or converted
    ├── ProcessFailed    a process that we started ended, or never became ready
    └── Refused          the command was understood and cannot be carried out

Standard library only: the set-up raises these before anything is installed.
"""


class DeployError(Exception):
    """Root of this package's errors: one line of what is wrong, one of what to do."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class SetupFailed(DeployError):
    """The set-up could not go on; the next try goes on where it stopped."""


class MachineTooSmall(DeployError):
    """Memory or disk do not suffice."""


class AlreadyRunning(DeployError):
    """One launcher for each FLOODGATE_HOME."""

    exit_code = 3


class NotRunning(DeployError):
    """No launcher runs in this FLOODGATE_HOME."""

    exit_code = 4


class PortTaken(DeployError):
    """The gateway's port belongs to somebody else."""


class ModelFailed(DeployError):
    """The default model could not be made ready."""


class ProcessFailed(DeployError):
    """A process that the launcher started ended by itself, or did not become ready in time."""


class Refused(DeployError):
    """What was asked for cannot be done; nothing was changed."""
