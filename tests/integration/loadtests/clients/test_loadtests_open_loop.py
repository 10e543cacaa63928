"""The open loop against a real server: what it sends, and in which order."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from itertools import cycle

import pytest

from loadtests.clients.open_loop import OpenLoop
from loadtests.clients.request_bytes import get_request

pytestmark = pytest.mark.integration


class Listener(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response({"/gone": 404, "/soon": 503}.get(self.path, 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not to the test's output."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Listener.paths = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as running:
        running.daemon_threads = True
        running.block_on_close = False
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def loop(server: HTTPServer, *targets: str) -> OpenLoop:
    url = f"http://127.0.0.1:{server.server_port}"
    requests = [get_request(url, target, []) for target in targets]
    return OpenLoop(("127.0.0.1", server.server_port), cycle(requests), 50.0, connections_max=4)


def test_requests_go_out_in_turn_and_from_the_first_again(server: HTTPServer) -> None:
    found = loop(server, "/a", "/b", "/c").run(0.0, 0.2)
    assert (found.sent, found.answered, found.failed) == (10, 10, 0)
    # Of several connections, so arrivals may change places.
    assert sorted(Listener.paths) == sorted(["/a", "/b", "/c"] * 3 + ["/a"])


def test_refused_requests_count_as_failed_with_the_first_reason(server: HTTPServer) -> None:
    found = loop(server, "/a", "/gone").run(0.0, 0.2)
    assert (found.answered, found.failed) == (5, 5)
    assert "404" in found.first_failure
    assert found.unavailable == 0


def test_those_who_shall_come_again_are_told_apart_from_other_failures(server: HTTPServer) -> None:
    found = loop(server, "/a", "/soon", "/gone", "/soon", "/a").run(0.0, 0.2)
    assert (found.answered, found.failed, found.unavailable) == (4, 6, 4)
