"""Commands on the waitlist, where its ledger is slow."""

import pytest
import redis

from deploy.directory_access import with_directory
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_a_command_waits_for_a_ledger_that_stands_still_for_a_while(
    ledger_server: RedisServer, flow_server: RedisServer
) -> None:
    urls = (ledger_server.url, flow_server.url)
    with redis.Redis.from_url(ledger_server.url) as client:
        client.client_pause(4_000)  # twice what the gateway's callers would wait
        (invite,) = with_directory(urls, lambda directory: directory.create_invites(1))
    assert invite.code
