"""The script of `hvae-codec completion`, in a real shell."""

import shutil
import subprocess
import sys

import pytest

ASK = """
source "$1"
shift
COMP_WORDS=(hvae-codec "$@")
COMP_CWORD=$#
_shtab_hvae_codec hvae-codec "${@: -1}" "${COMP_WORDS[$# - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "hvae-codec"
    command = [sys.executable, "-m", "hvae_codec.cli", "completion", "bash"]
    path.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["enc"], {"encode"}),
        (["encode", "--target"], {"--target-bytes", "--target-psnr"}),
        (["train", "--optimiser", ""], {"adam", "adamw", "muon", "soap"}),
        (["serve", "--max-queued-b"], {"--max-queued-bytes"}),
        (["completion", "b"], {"bash"}),
    ],
)
def test_commands_flags_and_choices(script, words, expected):
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", script, *words], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == expected


def test_paths_are_completed_as_files(script):
    text = script.read_text()
    for option in ("encode___output", "pack___output"):
        assert f"_shtab_hvae_codec_{option}_COMPGEN=_shtab_compgen_files" in text


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_scripts(run, shell):
    done = run("completion", shell)
    assert done.code == 0
    assert "encode" in done.out


def test_without_shtab_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = run("completion", "bash")
    assert done.code == 1
    assert "pip install hvae-codec[completion]" in done.err
