"""The blocking client is the one that is generated from the asynchronous one."""

import subprocess
import sys
from pathlib import Path

import pytest

from hvae_codec.client import AsyncClient, Client, generate_blocking

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", generate_blocking.NAMES)
def test_generated_files_are_up_to_date(name):
    path = ROOT / "hvae_codec" / "client" / "blocking" / name
    assert path.read_text() == generate_blocking.blocking(name), "run make client"


def test_a_difference_fails(tmp_path):
    """In a copy of the folders, where somebody changed a generated file."""
    for folder in ("aio", "blocking"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    source = Path(generate_blocking.__file__).parent
    for name in generate_blocking.NAMES:
        (tmp_path / "aio" / name).write_text((source / "aio" / name).read_text())
    script = tmp_path / "generate_blocking.py"
    script.write_text(Path(generate_blocking.__file__).read_text())

    def run(*words):
        command = [sys.executable, str(script), *words]
        return subprocess.run(command, capture_output=True, text=True)

    assert run("--check").returncode == 1
    assert run().returncode == 0
    assert run("--check").returncode == 0
    with (tmp_path / "blocking" / "calls.py").open("a") as file:
        file.write("# changed\n")
    refused = run("--check")
    assert refused.returncode == 1
    assert "calls.py is not generated from aio/calls.py" in refused.stderr


def test_both_clients_have_the_same_methods():
    def public(client):
        return {name for name in dir(client) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
