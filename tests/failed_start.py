"""What a machine was like as `floodgate up` failed: told before its home and its logs are gone."""

import contextlib
from collections import Counter
from pathlib import Path

import psutil

_TAIL_LINES = 25
# Of each log: an engine's traceback goes through vLLM, Ray and asyncio.
_TAIL_BYTES = 16_384
_PROCESSES_MAX = 12
_MIB = 2**20


def told(home: Path) -> str:
    """What `up` printed, the last lines of every log, who holds which port, and the memory."""
    logs = sorted(path for path in home.rglob("logs/**/*") if path.is_file())
    parts = {"floodgate up": _text(home / "up.out"), **{str(log): _tail(log) for log in logs}}
    parts |= {"ports": _ports(), "memory": _memory(), "processes": _processes()}
    return "\n".join(f"\n== {name}\n{part}" for name, part in parts.items() if part)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


def _tail(path: Path) -> str:
    return "\n".join(_text(path).splitlines()[-_TAIL_LINES:])


def _ports() -> str:
    """One line for each that listens; how many connections there are besides, by their state."""
    connections = psutil.net_connections("tcp")
    listening = [each for each in connections if each.status == psutil.CONN_LISTEN]
    others = Counter(each.status for each in connections if each.status != psutil.CONN_LISTEN)
    lines = [f"{':'.join(map(str, each.laddr))} {_name(each.pid)}" for each in listening]
    return "\n".join([*sorted(lines), ", ".join(f"{n} {state}" for state, n in others.items())])


def _memory() -> str:
    memory, shared = psutil.virtual_memory(), psutil.disk_usage("/dev/shm")
    return (
        f"{memory.available // _MIB} MiB of {memory.total // _MIB} are available; "
        f"{shared.used // _MIB} MiB of {shared.total // _MIB} in /dev/shm are used; "
        f"load {psutil.getloadavg()[0]:.1f}"
    )


def _processes() -> str:
    """Those with the most memory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.append((process.memory_info().rss // _MIB, _name(process.pid)))
    return "\n".join(f"{mib} MiB {name}" for mib, name in sorted(found)[: -_PROCESSES_MAX - 1 : -1])


def _name(pid: int | None) -> str:
    try:
        return f"{pid} {' '.join(psutil.Process(pid).cmdline())[:120]}"
    except psutil.Error:
        return str(pid)
