"""Blocks of cores are held by processes, whatever Ray calls them."""

import subprocess
import sys
from pathlib import Path

_CLAIM = (
    "import sys; from pathlib import Path; from serving.hardware.core_claim import claim_block;"
    "print(claim_block(Path(sys.argv[1]), 2), flush=True); sys.stdin.read()"
)


def _claim(folder: Path) -> tuple["subprocess.Popen[str]", int]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIM, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_each_process_gets_a_block_of_its_own_and_a_dead_ones_is_free_again(
    tmp_path: Path,
) -> None:
    found = [_claim(tmp_path) for _ in range(3)]
    assert [block for _, block in found] == [0, 1, 2], "the third shares, while one still drains"
    found[0][0].kill()
    found[0][0].wait()
    successor = _claim(tmp_path)
    assert successor[1] == 0
    for process, _ in (*found, successor):
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
