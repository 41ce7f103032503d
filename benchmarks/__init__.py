"""One module per question: each prints tables, writes JSON with --json, and names its peers'
versions. They run from a clone of the repository, with the extras `bench` and `server`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

_MISUSED = 2
_EXTRAS = {"atheris": "fuzz"}


def _say_what_is_missing(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """End with a line where a benchmark lacks a package; with a traceback where anything else is
    wrong.
    """
    if isinstance(error.__cause__, ModuleNotFoundError):  # of a part that the package offers alone
        error = error.__cause__
    name = getattr(error, "name", None) or ""
    if not isinstance(error, ModuleNotFoundError) or name.partition(".")[0] == __name__:
        sys.__excepthook__(kind, error, trace)
        return
    state = "not built" if name.startswith("hvae_codec.") else "not installed"
    clone = Path(__file__).parents[1]
    print(
        f"benchmarks need the package {name}, which is {state} for {sys.executable}: "
        f"run `pip install --editable '.[{_EXTRAS.get(name, 'bench,server')}]'` in {clone}",
        file=sys.stderr,
    )
    raise SystemExit(_MISUSED)


if sys.argv[:1] == ["-m"]:  # as long as Python looks for a module of this package to run
    sys.excepthook = _say_what_is_missing
