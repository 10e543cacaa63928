import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings

URLS = {"ledger_url": "redis://:s3cret@h:1/0", "flow_url": "redis://:s3cret@h:2/0"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEDGER_URL", "FLOW_URL", "PORT", "HOST", "WORKERS"):
        monkeypatch.delenv(f"FLOODGATE_{name}", raising=False)


def test_the_two_redis_urls_are_all_that_must_be_given() -> None:
    settings = GatewaySettings(**URLS)  # type: ignore[arg-type]
    assert (settings.port, settings.workers) == (8000, 1)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOODGATE_PORT", "9000")
    assert GatewaySettings(**URLS).port == 9000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ledger_url", "s3cret@nowhere"),
        ("flow_url", "http://:s3cret@h"),
        ("upstream_url", "127.0.0.1:8000"),
        ("upstream_url", "http://somebody:s3cret@127.0.0.1:8000"),
        ("port", 0),
        ("port", 65536),
        ("workers", 0),
        ("body_bytes_max", 1),
        ("log_level", "loud"),
    ],
)
def test_wrong_values_are_refused_by_name_without_secrets(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        GatewaySettings(**{**URLS, field: value})  # type: ignore[arg-type]
    errors = refusal.value.errors(include_input=False)
    assert field in str(errors) or field.upper() in str(errors)
    assert "s3cret" not in str(errors)


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(GatewaySettings(**URLS))  # type: ignore[arg-type]
