#!/usr/bin/env bash
# webdataset's TarWriter writes 1,024 bytes more than it need for every member, whatever `format` says.
#
# TarWriter takes `format`, by default USTAR, and does not pass it on to tarfile, whose own default is
# PAX. The time of a member is a fraction of a second, which USTAR's header cannot hold, so every
# member gets a PAX header of 512 bytes and a block of 512 bytes that holds this time alone. A data set
# of small members, such as labels, thumbnails or features, is twice as large. `format=` has no effect;
# with a whole number as `mtime`, for example `mtime=0`, there is no such header.
#
# Seen with webdataset 1.0.2, a tar file of 100 members of 30 bytes:
#   by default, and with format="USTAR_FORMAT": 215,040 bytes, 100 PAX headers; mtime=0: 112,640 bytes, none
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 numpy==2.3.4
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import webdataset

print("webdataset", version("webdataset"))


def written(**options):
    """Bytes of the tar file, and its PAX headers."""
    with webdataset.TarWriter("a.tar", **options) as tar:
        for number in range(100):
            tar.write({"__key__": f"{number:06d}", "bin": b"x" * 30})
    data = Path("a.tar").read_bytes()
    return len(data), data.count(b"@PaxHeader")


found = {}
for options in ({}, {"format": "USTAR_FORMAT"}, {"mtime": 0}):
    size, headers = found[str(options)] = written(**options)
    print(f"{options}: {size:,} bytes, {headers} PAX headers")
default, ustar, whole = found.values()
described = default == ustar and default[1] == 100 and whole[1] == 0 and default[0] > 1.8 * whole[0]
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON
