"""A YAML file of an operator's, read so that each mistake is told with its file and line.

The one module that imports yaml.
"""

from pathlib import Path
from typing import Any

import yaml

from gateway.errors import FileUnusable

Node = yaml.Node

# A plan takes some 400 bytes of text; this is room for two thousand.
_FILE_BYTES_MAX = 1024 * 1024


class YamlFile:
    """The nodes of one file. `root` is None where it holds nothing but comments."""

    def __init__(self, path: Path) -> None:
        """Reads it.

        Raises:
            FileUnusable: it cannot be read, or is no YAML.
        """
        self._path = path
        try:
            with path.open("rb") as file:
                text = file.read(_FILE_BYTES_MAX + 1)
            if len(text) > _FILE_BYTES_MAX:
                raise FileUnusable(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
            self._loader = yaml.SafeLoader(text.decode())
            self.root: Node | None = self._loader.get_single_node()
        except OSError as error:
            raise FileUnusable(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise FileUnusable(f"{path}: not UTF-8 at byte {error.start}") from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise FileUnusable(f"{path}:{line}: {error.problem or error.context}") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise FileUnusable(f"{path}: {str(error) or 'nested too deep'}") from error

    def entries(self, node: Node | None, what: str) -> dict[str, tuple[Node, Node]]:
        """A mapping's texts with the nodes of key and value. YAML itself lets the last of two win.

        Raises:
            FileUnusable: the node is no mapping of texts, or has one twice.
        """
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, f"{what} must stand here, each with a colon")
        entries: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.wrong(key, f"{what} must be plain words")
            if key.value in entries:
                raise self.wrong(key, f"'{key.value}' stands here a second time")
            entries[key.value] = (key, value)
        return entries

    def value(self, node: Node) -> Any:
        """What the node says, in plain Python types.

        Raises:
            FileUnusable: it says nothing that is safe to read.
        """
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise self.wrong(node, f"cannot be read: {error}") from None

    def wrong(self, node: Node | None, problem: str) -> FileUnusable:
        line = 1 if node is None else node.start_mark.line + 1
        return FileUnusable(f"{self._path}:{line}: {problem}")
