"""One process of a campaign: `python -m benchmarks.fuzzing.worker '{...}'`.

Prints "P n" lines as inputs are done, and "R {...}" with the report at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fuzzing import coverage

if TYPE_CHECKING:
    from benchmarks.fuzzing.campaign import Campaign
    from benchmarks.fuzzing.target import Target

WHOLE_EVERY = {"files": 100, "archives": 50, "requests": 1}
"""One input in so many goes through the networks; requests always do, as far as they come."""

_SAID_EVERY = 500


def main() -> None:
    """Run the piece of work that the argument describes."""
    work = json.loads(sys.argv[1])
    guided = work["engine"] == "coverage"
    if guided:
        with coverage.watching():
            import hvae_codec.codec.archive.reader
            import hvae_codec.codec.codec

            if work["kind"] == "requests":
                import hvae_codec.server.rpc.servicer  # noqa: F401
    run(work, guided)


def run(work: dict[str, Any], guided: bool) -> None:
    """The campaign itself; imports wait until the codec's modules are watched."""
    import torch

    from benchmarks.fuzzing.campaign import Campaign, CurrentInput, run_plain

    torch.set_num_threads(1)
    folder = Path(work["folder"])
    target = make_target(work["kind"])
    campaign = Campaign(
        target,
        whole_every=WHOLE_EVERY[work["kind"]],
        current=CurrentInput(folder / "current"),
        guarded=True,
    )

    def progress() -> None:
        if campaign.inputs % _SAID_EVERY == 0:
            print("P", campaign.inputs, flush=True)

    if not guided:
        found = run_plain(campaign, target, work["inputs"], work["seed"], progress)
        _say(campaign, found)
        return

    def check(mutant: Any) -> None:
        campaign.check(mutant)
        progress()

    coverage.run_guided(
        check, target, work["inputs"], work["seed"], folder, lambda: _say(campaign, {})
    )


def make_target(kind: str) -> Target:
    """The kind of input of this name."""
    if kind == "files":
        from benchmarks.fuzzing.files import FileTarget

        return FileTarget()
    if kind == "archives":
        from benchmarks.fuzzing.archives import ArchiveTarget

        return ArchiveTarget()
    from benchmarks.fuzzing.requests import RequestTarget

    return RequestTarget()


def _say(campaign: Campaign, more: dict[str, int]) -> None:
    print("R", json.dumps(campaign.report() | more), flush=True)


if __name__ == "__main__":
    main()
