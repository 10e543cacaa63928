"""What settings mean to the parts that are wired: their bounds, times and secrets. Pure."""

from pathlib import Path

from gateway.engines.capacity import Capacity
from gateway.line.line_terms import LineBounds
from gateway.request.request_policy import PolicyBounds
from gateway.settings import GatewaySettings
from gateway.waiting import NoticeTimes


def policy_bounds(settings: GatewaySettings) -> PolicyBounds:
    return PolicyBounds(
        choices_max=settings.choices_max, embedding_inputs_max=settings.embedding_inputs_max
    )


def line_bounds(settings: GatewaySettings) -> LineBounds:
    return LineBounds(
        tickets_max=settings.queue_length_max,
        wait_s_max=settings.queue_wait_s_max,
        bytes_max=settings.queue_bytes_max,
    )


def notice_times(settings: GatewaySettings) -> NoticeTimes:
    never = float("inf")
    return NoticeTimes(
        first_stream_s=settings.queue_notice_stream_s if settings.queue_notices else never,
        first_json_s=settings.queue_notice_json_s if settings.queue_notices else never,
        every_s=settings.queue_notice_every_s,
    )


def cache_salt_secret(settings: GatewaySettings) -> bytes:
    secret = settings.cache_salt_secret.get_secret_value()
    return (secret or settings.engine_secret.get_secret_value()).encode()


def tokenizer_folder(settings: GatewaySettings, capacity: Capacity, model: str) -> str:
    """That of one of the model's replicas where it is on this machine too, else the setting's."""
    pool = capacity.view.by_model.get(model)
    for folder in pool.tokenizers if pool else ():
        if Path(folder).is_dir():
            return folder
    return settings.tokenizer
