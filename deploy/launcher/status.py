"""`floodgate status`: what runs, on which ports, and what replicas and models say.

A model that does not start has no replica to say why: its own record does.
"""

from dataclasses import asdict
from typing import Any

import psutil
from rich.console import Console
from rich.table import Column, Table

from deploy.errors import Refused
from deploy.home import Home
from deploy.launcher.run_lock import is_held
from deploy.model_records import ModelReplicas, read_models
from deploy.replica_records import read_replicas
from deploy.run_state import ProcessState, read_state


def read_status(home: Home) -> dict[str, Any]:
    """The state of a home as a JSON document; `running` is False where no launcher lives."""
    state = read_state(home)
    if state is None or not is_held(home):
        return {"running": False, "home": str(home.root)}
    replicas, flow_error = read_replicas(state.flow_url)
    models: list[ModelReplicas] = []
    if not flow_error:
        try:
            models = read_models(state.flow_url)
        except Refused as error:  # it has gone since
            flow_error = error.message
    return {
        "running": True,
        "home": str(home.root),
        "phase": state.phase,
        "url": state.url,
        "model": state.model,
        "launcher_pid": state.launcher_pid,
        "started_at": state.started_at.isoformat(),
        "processes": [_describe(process) for process in state.processes],
        "replicas": [replica.model_dump(mode="json") for replica in replicas],
        "models": [asdict(model) for model in models],
        "flow_error": flow_error,
    }


def print_status(console: Console, status: dict[str, Any]) -> None:
    """Tables for people."""
    if not status["running"]:
        console.print(f"Floodgate does not run in {status['home']}.", highlight=False)
        return
    console.print(
        f"{status['model']} at {status['url']}: {status['phase']} since {status['started_at']} "
        f"(launcher {status['launcher_pid']}, {status['home']})",
        highlight=False,
        soft_wrap=True,
    )
    processes = Table("process", "pid", "port", "state", "memory", "restarts")
    for row in status["processes"]:
        memory = "" if row["memory_mib"] is None else f"{row['memory_mib']} MiB"
        cells = (row["pid"], row["port"] or "", row["state"], memory, row["restarts"])
        processes.add_row(row["name"], *map(str, cells))
    console.print(processes)
    replicas = Table("replica", "model", "state", Column("url", overflow="fold"))
    for name in ("slots", "running", "waiting", "KV use", "tokens/s"):
        replicas.add_column(name)
    for row in status["replicas"]:
        engine = row["engine"]
        head = (row["replica_id"], row["model"], row["state"], row["url"])
        load = (row["slots"], engine["running"], engine["waiting"], f"{engine['kv_use']:.0%}")
        rate = engine["generation_tokens_per_s"]
        replicas.add_row(*head, *map(str, load), "" if rate is None else f"{rate:.0f}")
    if status["flow_error"]:
        console.print(f"Replicas are not known: {status['flow_error']}", highlight=False)
    elif status["replicas"]:
        console.print(replicas)
    else:
        console.print("No replica has published itself.")
    for model in status["models"]:
        if reason := model["start_failure"]:
            # The engine's own words, in which brackets are no markup.
            text = f"{model['model']} does not start: {reason}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)


def _describe(process: ProcessState) -> dict[str, Any]:
    row = {**process.model_dump(), "state": "gone", "memory_mib": None}
    try:
        running = psutil.Process(process.pid)
        tree = [running, *running.children(recursive=True)]
        row["memory_mib"] = sum(member.memory_info().rss for member in tree) // 2**20
        row["state"] = "running" if running.status() != psutil.STATUS_ZOMBIE else "gone"
    except psutil.Error:
        pass
    return row
