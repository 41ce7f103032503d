"""Progress bars are for terminals: in a log, each of their states would stay as a line."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("hvae_codec", "server", "benchmarks")


def bars(path):
    """The calls that make a progress bar."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return [call for call in calls if getattr(call.func, "id", None) in ("tqdm", "trange")]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_bar_is_hidden_where_there_is_no_terminal(folder):
    found = [(path, bar) for path in sorted((ROOT / folder).rglob("*.py")) for bar in bars(path)]
    assert found or folder == "server"
    for path, bar in found:
        # tqdm shows a bar in a log as well unless `disable` is None.
        assert any(keyword.arg == "disable" for keyword in bar.keywords), f"{path}:{bar.lineno}"
