"""What the command `hvae-codec` runs first: what counts before torch is imported, then itself."""

import sys

from hvae_codec.utils.cores import limit_threads
from hvae_codec.utils.signals import ended_by_signals, unwound_by_sigterm


def main() -> int:
    """Run the command line of the process and return the exit code."""
    limit_threads()
    if sys.argv[1:2] != ["serve"]:
        return unwound_by_sigterm(_run)
    with ended_by_signals():  # before the imports: signals that come during them count
        return _run()


def _run() -> int:
    from hvae_codec.cli import main as command

    return command()
