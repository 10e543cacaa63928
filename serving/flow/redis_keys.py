"""The names of all keys that serving writes or reads on the flow Redis.

Keys of a model and of its replicas carry the model as hash tag, so that one script may touch them
on a Redis Cluster. The list of models has no tag: it is one small key, written by itself.
"""

from __future__ import annotations

MODELS = "fg:models"

# Read here. Hash: model -> replicas that an operator wants, from the ledger by way of the gateway.
PINS = "fg:pins"


def model_record(model: str) -> str:
    """What the model's serving wants of itself: a JSON string that expires unless renewed."""
    return f"fg:model:{{{model}}}"


def demand(model: str) -> str:
    """What the model's line asks for: a JSON string that gateways write and serving reads."""
    return f"fg:demand:{{{model}}}"


def replica_record(model: str, replica_id: str) -> str:
    """The record of one replica: a JSON string that expires when it is not renewed."""
    return f"fg:replica:{{{model}}}:{replica_id}"


def model_replicas(model: str) -> str:
    """The replicas of a model: sorted set of replica ids by expiry in ms of Redis's clock."""
    return f"fg:replicas:{{{model}}}"
