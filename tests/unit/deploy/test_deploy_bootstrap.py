"""The one script that must also run on a Python that is too old."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "deploy" / "bootstrap.py"


def test_old_pythons_can_read_it() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


def test_old_pythons_are_told_what_is_needed(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 2); sys.argv[0] = 'bootstrap.py';"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.11 to 3.14 is needed" in done.stderr


def test_set_up_imports_nothing_that_has_to_be_installed() -> None:
    code = (
        "import sys; before = set(sys.modules); import deploy.setup.main;"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*(names - sys.stdlib_module_names - {'deploy'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
