#!/usr/bin/env bash
# Drawing normal numbers into a tensor on torch's device "meta", where there is nothing to draw,
# imports torch._dynamo, which takes seconds.
#
# Building a module on the device meta is the usual way to load weights without drawing them first.
# torch.nn.init.normal_ on a meta tensor goes through torch._refs.normal, which torch._compile wraps
# and for which it imports all of torch._dynamo. Making, scaling and filling meta tensors do not.
#
# Seen with torch 2.13.0 (CPU) and 2.14.1 (2.5 s of processor time for the import):
#   empty, mul_, add_, zero_: torch._dynamo not imported
#   normal_: torch._dynamo imported
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.4
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch

print("torch", torch.__version__)


def state():
    return "imported" if "torch._dynamo" in sys.modules else "not imported"


weight = torch.empty(4, 4, device="meta")
weight.mul_(2.0).add_(1.0).zero_()
before = state()
print("after empty, mul_, add_, zero_: torch._dynamo", before)
start = time.process_time()
torch.nn.init.normal_(weight)
seconds = time.process_time() - start
after = state()
print(f"after normal_: torch._dynamo {after}, {seconds:.1f} s of processor time")
described = (before, after) == ("not imported", "imported")
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON
