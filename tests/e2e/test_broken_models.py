"""A model folder that is missing or damaged when `floodgate up` starts: told, and nothing stays.

Most damage is found before Ray is started; what only vLLM can find costs its start.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.launcher import marked_processes
from tests.running_floodgate import MODEL, RunningFloodgate, shared_cache
from tests.running_floodgate import floodgate as floodgate_command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]

Damage = Callable[[Path], None]
WEIGHTS = "model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The default model in a folder of its own, by links: a test replaces what it damages."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (Path(shared_cache()) / "models" / MODEL).iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def cut_weights_short(folder: Path) -> None:
    with (folder / WEIGHTS).open("rb") as file:
        start = file.read(2**20)
    replace(folder / WEIGHTS, start)


def lose_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def lose_what_the_link_names(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(folder / "cleaned")


def lose_a_shard(folder: Path) -> None:
    index = {"weight_map": {"a": WEIGHTS, "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def lose_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def garble_config(folder: Path) -> None:
    replace(folder / "config.json", b'{"architectures": ["Llama\x00')


def garble_tokenizer(folder: Path) -> None:
    replace(folder / "tokenizer.json", os.urandom(2**16))


def change_a_shape(folder: Path) -> None:
    """Whole as a file, with tensors of another model."""
    with (folder / WEIGHTS).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        (width,) = header["model.norm.weight"]["shape"]
        header["model.norm.weight"]["shape"] = [2, width // 2]
        text = json.dumps(header).encode()
        (folder / WEIGHTS).unlink()
        with (folder / WEIGHTS).open("wb") as changed:
            changed.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(file, changed)


def up(home: Path, **settings: object) -> tuple[int, str]:
    """Exit status and words of a `floodgate up` that is to end by itself."""
    done = subprocess.run(
        [floodgate_command(), "up"],
        env=RunningFloodgate(home, kv_cache_gib=1, **settings).environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (shutil.rmtree, "There is no model folder"),
        (lose_config, "has no config.json"),
        (garble_config, "config.json cannot be read"),
        (garble_tokenizer, "tokenizer.json cannot be read"),
        (lose_weights, "has no weights"),
        (cut_weights_short, "is damaged: 1048576 bytes, where its header says 269060552"),
        (lose_what_the_link_names, "model.safetensors cannot be read: No such file"),
        (lose_a_shard, "lacks 1 of 2 weight files"),
        pytest.param(change_a_shape, "Attempted to load weight", marks=pytest.mark.long),
    ],
)
def test_up_says_what_is_wrong_with_its_model_and_leaves_nothing(
    tmp_path: Path, model: Path, damage: Damage, told: str
) -> None:
    damage(model)
    home = tmp_path / "home"
    status, words = up(home, model=model)
    told_words = " ".join(words.split())
    assert told in told_words
    assert str(model) in told_words
    assert "serving.log" in told_words, "where to read on"
    assert "Traceback" not in words
    assert status == 1
    assert marked_processes.find(marked_processes.of_home(str(home))) == []
