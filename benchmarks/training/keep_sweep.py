"""Keeps of a finished sweep what belongs into the repository.

    python -m benchmarks.training.keep_sweep runs/cifar10-ghvae [...]

For each sweep, into benchmarks/results/sweeps/NAME: its plan, the rows of its evaluation, its
images, the checkpoints of the three optima (reconstruction, generation, representation), and the
report's figures and tables. Anybody can draw the whole report from them again, the interactive page
included: `hvae-codec report benchmarks/results/sweeps/NAME`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.common import RESULTS
from hvae_codec.cli import main as command
from hvae_codec.evaluation.evaluate import PICTURES, ROWS_FILE
from hvae_codec.reporting.results import read_sweep
from hvae_codec.reporting.selection import optima
from hvae_codec.training.sweep.plan import PLAN_FILE

SWEEPS = RESULTS / "sweeps"
KEPT = (".txt", ".md", ".json")
"""Endings of the report's files that are kept, beside figures as PNG: page and SVGs are large."""


def keep(sweep: Path) -> Path:
    """Copy one sweep; the folder it is in then."""
    target = SWEEPS / sweep.name
    shutil.rmtree(target, ignore_errors=True)
    (target / "models").mkdir(parents=True)
    for name in (PLAN_FILE, ROWS_FILE):
        shutil.copyfile(sweep / name, target / name)
    shutil.copytree(sweep / PICTURES, target / PICTURES)
    for optimum in optima(read_sweep(sweep)):
        for ending in (".safetensors", ".json"):
            name = optimum.row.model + ending
            shutil.copyfile(sweep / "models" / name, target / "models" / name)
    with tempfile.TemporaryDirectory() as folder:
        if code := command(["report", str(target), "--out", folder]):
            raise SystemExit(code)
        (target / "report").mkdir()
        for file in Path(folder).iterdir():
            if file.suffix == ".png":
                with Image.open(file) as figure:  # 256 colours do, in a third of the bytes
                    small = figure.convert("RGB").quantize(256)
                small.save(target / "report" / file.name, optimize=True)
            elif file.suffix in KEPT:
                shutil.copyfile(file, target / "report" / file.name)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP")
    for sweep in parser.parse_args().sweeps:
        print(keep(sweep))


if __name__ == "__main__":
    main()
