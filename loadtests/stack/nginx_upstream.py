"""An upstream that costs next to nothing: nginx answering from its own configuration.

One worker. Whether it answers a chat with JSON or with a stream depends on whether a flag file
exists, since nginx cannot look into a request body: the bench sets the flag to what it asks for.

Streams pass nginx's include filter, which finds nothing to include but makes it send chunks
without a length, as an engine does: a proxy must not tell the end of a stream in advance.
"""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtests.clients import canned
from loadtests.clients.http_probe import wait_until_ok
from loadtests.process import Process, free_port, require_tools

READY_S_MAX = 30.0
PARAMETER_BYTES_MAX = 3800
"""nginx refuses a directive's parameter of more than 4096 bytes."""

CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location = /health {{ return 200; }}
    location = /v1/models {{ return 200 '{models}'; }}
    location = /v1/chat/completions {{
      if (-f {flag}) {{ rewrite ^ /stream last; }}
      return 200 '{completion}';
    }}
    location = /stream {{
      internal;
      default_type text/event-stream;
      ssi on;
      ssi_types text/event-stream;
{stream_variables}
      return 200 "{stream_names}";
    }}
  }}
}}
"""


class NginxUpstream:
    """A running nginx with its own folder, port and core."""

    def __init__(self, folder: Path, core: int) -> None:
        """Start it and wait until it answers."""
        require_tools("nginx")
        folder.mkdir(parents=True, exist_ok=True)
        self._flag = folder / "stream"
        self._flag.unlink(missing_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        configuration = folder / "nginx.conf"
        configuration.write_text(render_configuration(folder, port, self._flag))
        self.process = Process(
            "nginx",
            # The compiled-in error log may not be writable; stderr is asked for before the file
            # is read.
            ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(configuration)],
            log_path=folder / "nginx.log",
            core=core,
        )
        try:
            wait_until_ok(f"{self.url}/health", self.process, READY_S_MAX)
        except BaseException:
            self.process.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.stop()

    def answer_with_stream(self, stream: bool) -> None:
        """Make chats be answered with the stream of events, or with one JSON body."""
        if stream:
            self._flag.touch()
        else:
            self._flag.unlink(missing_ok=True)


def render_configuration(folder: Path, port: int, flag: Path) -> str:
    """The whole nginx.conf."""
    variables = [
        (f"$events_{number}", text)
        for number, text in enumerate(pack(stream_frames(), PARAMETER_BYTES_MAX))
    ]
    return CONFIGURATION.format(
        folder=folder,
        port=port,
        flag=flag,
        models=canned.model_list(),
        completion=canned.chat_completion(),
        stream_variables="\n".join(f"      set {name} '{text}';" for name, text in variables),
        stream_names="".join(name for name, _ in variables),
    )


def stream_frames() -> Iterable[str]:
    r"""The stream's frames in nginx's notation, which reads `\n` in a quoted text as a line end."""
    return (f"data: {data}\\n\\n" for data in canned.stream_events())


def pack(pieces: Iterable[str], bytes_max: int) -> list[str]:
    """Join pieces, in order, into as few texts as possible of at most `bytes_max` bytes.

    Raises:
        ValueError: a single piece is longer than that.
    """
    packed: list[str] = []
    for piece in pieces:
        length = len(piece.encode())
        if length > bytes_max:
            raise ValueError(f"a piece of {length} bytes does not fit into {bytes_max}")
        if packed and len(packed[-1].encode()) + length <= bytes_max:
            packed[-1] += piece
        else:
            packed.append(piece)
    return packed
