"""Puts the measured tables into README.md and the pages of docs/, between their markers.

    python -m benchmarks.docs.readme_tables            rewrite them from benchmarks/results/
    python -m benchmarks.docs.readme_tables --check    exit 1 if that would change one of them

Each benchmark declares its tables; a page says by its markers which of them it has.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.codec import (
    codec_speed,
    integer_exactness,
    integer_networks,
    memory,
    photographs,
    shared_cores,
    stores,
)
from benchmarks.rate_distortion import tables as rate_distortion
from benchmarks.service import tables as service
from benchmarks.tables import Table, filled, stored
from benchmarks.training import (
    kernels,
    optimisers,
    photo_recipes,
    plane_losses,
    step,
    sweep_speed,
    throughput,
)
from hvae_codec.utils.atomic_files import write_atomically

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MEASURED = (
    codec_speed,
    integer_exactness,
    integer_networks,
    memory,
    photographs,
    shared_cores,
    stores,
    kernels,
    optimisers,
    photo_recipes,
    plane_losses,
    step,
    sweep_speed,
    throughput,
)

Parts = Mapping[str, Callable[[], str]]


def parts_of(tables: Iterable[Table]) -> Parts:
    """What each table writes, by its name."""
    return {table.name: table.markdown for table in tables}


PAGES: dict[Path, Parts] = {
    README: parts_of([rate_distortion.SUMMARY]),
    ROOT / "docs" / "BENCHMARKS.md": {
        **parts_of(table for module in MEASURED for table in module.BENCHMARK.tables),
        **parts_of((rate_distortion.PEERS, rate_distortion.KODAK)),
    },
    ROOT / "docs" / "CAPACITY.md": {
        **parts_of(service.TABLES),
        **{name: partial(filled, text, stored("service")) for name, text in service.TEXTS.items()},
    },
}
MARKED = re.compile(r"(<!-- (?!end )(.+?) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def rendered(page: Path) -> str:
    """A page's text with what stands between two markers of a name in its newest form.

    Raises:
        SystemExit: there is no table of a name, a name is there twice, or a marker is alone.
    """
    text, parts = page.read_text(), PAGES[page]
    names = [found[2] for found in MARKED.finditer(text)]
    if unknown := [name for name in names if name not in parts or names.count(name) > 1]:
        raise SystemExit(f"{page.name}: no table or more than one place for {unknown[0]!r}")
    if text.count("<!-- ") != 2 * len(names):
        raise SystemExit(f"{page.name}: a marker lacks its end, or an end its marker")
    return MARKED.sub(lambda found: f"{found[1]}{parts[found[2]]()}\n{found[3]}", text)


def main() -> int:
    """Rewrite or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    arguments = parser.parse_args()
    stale = False
    for page in PAGES:
        new = rendered(page)
        stale |= new != page.read_text()
        if not arguments.check:
            write_atomically(page, new.encode())
    return int(arguments.check and stale)


if __name__ == "__main__":
    sys.exit(main())
