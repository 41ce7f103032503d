#!/usr/bin/env bash
# litData's optimize deletes what is in the folders `data` and `chunks` of the temporary folder, so
# /tmp/data and /tmp/chunks, whoever put it there.
#
# The two are its own cache folders by default. It removes them before it starts, "to avoid corrupted
# files from previous run", also where inputs and output lie elsewhere and nothing is downloaded. Files
# of other programs in /tmp/data are lost without a word. DATA_OPTIMIZER_CACHE_FOLDER and
# DATA_OPTIMIZER_DATA_CACHE_FOLDER name other folders.
#
# Seen with litdata 0.2.76, a file in each of the two folders, samples from memory, output_dir elsewhere:
#   before: data and chunks hold table.csv; after: both are empty; with the two variables: kept
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet litdata==0.2.76 torch==2.13.0 numpy==2.3.4
mkdir "$folder/temporary"
cd "$folder"
cat > program.py <<'PYTHON'
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import litdata

FOLDERS = [Path(tempfile.gettempdir()) / name for name in ("data", "chunks")]


def sample(number):
    return {"number": number}


def kept(output):
    """Of each folder whether it still has its file after a run."""
    for folder in FOLDERS:
        folder.mkdir(exist_ok=True)
        (folder / "table.csv").write_text("a,b")
    options = {"chunk_size": 4, "num_workers": 1, "verbose": False}
    litdata.optimize(sample, [0, 1], output_dir=output, **options)
    return [(folder / "table.csv").exists() for folder in FOLDERS]


if __name__ == "__main__":
    print("litdata", version("litdata"))
    default = kept("first")
    print("data and chunks keep their file, by default:", *default)
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = "own-data"
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = "own-chunks"
    named = kept("second")
    print("data and chunks keep their file, others named:", *named)
    described = default == [False, False] and named == [True, True]
    print("as described" if described else "the behaviour has changed")
    sys.exit(not described)
PYTHON
HOME="$folder" TMPDIR="$folder/temporary" "$folder/venv/bin/python" -W ignore program.py
