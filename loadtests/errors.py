"""What can go wrong in a bench.

BenchError
├── MissingToolError     a program the bench needs is not on PATH
├── ProcessFailedError   a process ended, or never answered, while it was needed
└── MeasurementError     a run finished but its numbers cannot be trusted
"""


class BenchError(Exception):
    """Any failure that a bench can explain to the person who started it."""


class MissingToolError(BenchError):
    """A program the bench needs is not on PATH; the message names the package that has it."""


class ProcessFailedError(BenchError):
    """A process ended, or never answered, while it was needed."""


class MeasurementError(BenchError):
    """A run finished, but with errors, short bodies or missing figures."""
