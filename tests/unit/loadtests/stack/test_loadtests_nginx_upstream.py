import json
from pathlib import Path

import pytest

from loadtests.clients import canned
from loadtests.stack.nginx_upstream import PARAMETER_BYTES_MAX, pack, render_configuration


def test_a_stream_has_64_events_then_done() -> None:
    *events, last = canned.stream_events()
    assert len(events) == canned.STREAM_EVENTS
    assert last == "[DONE]"
    usage = json.loads(events[-1])["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


def test_pieces_are_packed_in_order_and_within_bounds() -> None:
    packed = pack(["aaa", "bb", "c", "dddd"], bytes_max=5)
    assert packed == ["aaabb", "cdddd"]


def test_a_piece_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack(["four"], bytes_max=3)


def test_no_parameter_is_longer_than_nginx_takes() -> None:
    configuration = render_configuration(Path("/folder"), 8080, Path("/folder/stream"))
    assert "listen 127.0.0.1:8080" in configuration
    sets = [line for line in configuration.splitlines() if line.strip().startswith("set ")]
    assert len(sets) > 1
    assert all(len(line) < PARAMETER_BYTES_MAX + 100 for line in sets)


def test_requests_say_whether_they_stream() -> None:
    assert "stream" not in json.loads(canned.chat_request(stream=False))
    assert json.loads(canned.chat_request(stream=True))["stream"] is True
