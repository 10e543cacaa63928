"""Fails when an upgrade of Ray moves what `serving.engine.ray_internals` takes from inside it.

It reads Ray's source instead of importing it: that would import vLLM, which takes 6 s.
"""

import ast
from pathlib import Path

import pytest

SERVER = "llm/_internal/serve/core/server/llm_server.py"
ENGINE = "llm/_internal/serve/engines/vllm/vllm_engine.py"
REPLICA = "serve/_private/replica.py"


def _defined(path: Path) -> set[str]:
    """Names of all classes and functions in a file, methods as Class.method."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(f"{node.name}.{member.name}")
    return names


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("_common/tls_utils.py", "add_port_to_grpc_server"),
        ("llm/_internal/common/callbacks/base.py", "CallbackBase"),
        ("llm/_internal/common/callbacks/base.py", "CallbackBase.on_before_node_init"),
        ("llm/_internal/common/callbacks/base.py", "CallbackConfig"),
        (SERVER, "LLMServer.sync_init"),
        (SERVER, "LLMServer.start"),
        (SERVER, "LLMServer._start_engine"),
        (SERVER, "LLMServer.__serve_build_asgi_app__"),
        (SERVER, "LLMServer.check_health"),
        ("serve/llm/__init__.py", "LLMConfig"),
    ],
)
def test_defined(ray_folder: Path, file: str, name: str) -> None:
    assert name in _defined(ray_folder / file)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (ENGINE, "if callback.ctx.run_init_node:"),
        (ENGINE, "self._engine_client = "),
        (REPLICA, "from ray._common.tls_utils import add_port_to_grpc_server"),
        (REPLICA, 'add_port_to_grpc_server(self._server, "[::]:0")'),
        (
            REPLICA,
            "    RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S\n                if is_direct",
        ),
        (REPLICA, 'route in ["/-/healthz", "/-/routes"]'),
    ],
)
def test_used_as_we_rely_on(ray_folder: Path, file: str, text: str) -> None:
    assert text in (ray_folder / file).read_text()


def test_all_that_is_taken_is_named_here() -> None:
    source = Path(__file__).parents[4] / "serving" / "engine" / "ray_internals.py"
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ray")
        for alias in node.names
    }
    assert imported == {
        "ray._common.tls_utils.add_port_to_grpc_server",
        "ray.llm._internal.common.callbacks.base.CallbackBase",
        "ray.llm._internal.common.callbacks.base.CallbackConfig",
        "ray.serve._private.replica",
        "ray.serve.llm.LLMConfig",
        "ray.serve.llm.LLMServer",
    }


def test_no_other_module_reaches_inside() -> None:
    package = Path(__file__).parents[4] / "serving"
    reaching = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if name.startswith("ray.") and "._" in name
    }
    assert reaching == {"ray_internals.py"}
