#!/usr/bin/env bash
# litData's StreamingDataset calls no serializer that it was given for samples that are dicts where
# pyarrow is installed; where it is not, it calls it.
#
# `serializers={"bytes": ...}` replaces how fields of format "bytes" are read. Where pyarrow is
# installed, `optimize` writes a copy of dicts in Arrow, and this copy is read without serializers:
# the stored bytes come back as they are, without a word. The index states the same formats either way.
# Samples that are tuples or bytes alone are read by the serializer in both cases, and a `transform=` is
# called for samples of every kind. So installing a package changes what a data set gives.
#
# Seen with litdata 0.2.76, pyarrow 26.0.1, a serializer that reads capitals, {"text": b"abc", "label": 0}:
#   without pyarrow {"text": b"ABC", "label": 0}; with it {"text": b"abc", "label": 0}
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet litdata==0.2.76 torch==2.13.0 numpy==2.3.4
cd "$folder"
cat > program.py <<'PYTHON'
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec

import litdata
from litdata.streaming.serializers import BytesSerializer


class Capitals(BytesSerializer):
    def deserialize(self, data):
        return bytes(data).upper()


def pair(number):
    return b"abc", number


def alone(number):
    return b"abc"


def named(number):
    return {"text": b"abc", "label": number}


def first(make):
    """The formats that the index states, and the first sample."""
    litdata.optimize(make, [0, 1], output_dir=make.__name__, chunk_size=4, num_workers=1, verbose=False)
    with open(f"{make.__name__}/index.json") as file:
        formats = json.load(file)["config"]["data_format"]
    return formats, litdata.StreamingDataset(make.__name__, serializers={"bytes": Capitals()})[0]


if __name__ == "__main__":
    print("litdata", version("litdata"), "with pyarrow:", find_spec("pyarrow") is not None)
    found = {make.__name__: first(make) for make in (pair, alone, named)}
    for name, (formats, sample) in found.items():
        print(f"{name}: formats {formats}, read as {sample}")
    text = b"ABC" if find_spec("pyarrow") is None else b"abc"
    described = (
        found["pair"] == (["bytes", "int"], (b"ABC", 0))
        and found["alone"] == (["bytes"], b"ABC")
        and found["named"] == (["bytes", "int"], {"text": text, "label": 0})
    )
    print("as described" if described else "the behaviour has changed")
    sys.exit(not described)
PYTHON
export DATA_OPTIMIZER_CACHE_FOLDER="$folder/chunks" DATA_OPTIMIZER_DATA_CACHE_FOLDER="$folder/data"
export HOME="$folder" TMPDIR="$folder"
"$folder/venv/bin/python" -W ignore program.py
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
rm -rf pair alone named
"$folder/venv/bin/python" -W ignore program.py
