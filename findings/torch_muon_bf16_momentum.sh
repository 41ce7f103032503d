#!/usr/bin/env bash
# torch.optim.Muon with nesterov=False and bfloat16 parameters normalises its momentum in place.
#
# The orthogonalisation converts the update to bfloat16 and divides it by its norm in place. Without
# Nesterov momentum the update is the momentum buffer itself, and a buffer that already is bfloat16
# is not copied by the conversion. So every step overwrites the buffer by its direction: its norm is
# 1 after each step, and gradients of earlier steps weigh as if they had the norm 1. With float32
# parameters, or with Nesterov momentum, the buffer keeps the running mean of the gradients.
#
# Seen with torch 2.13.0 (CPU) and 2.14.1:
#   nesterov True  float32  buffer norms 0.980 1.862
#   nesterov True  bfloat16 buffer norms 0.981 1.866
#   nesterov False float32  buffer norms 0.980 1.862
#   nesterov False bfloat16 buffer norms 1.000 1.000
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.4
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch

print("torch", torch.__version__)
norms = {}
for nesterov in (True, False):
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter(torch.zeros(4, 6, dtype=dtype))
        optimiser = torch.optim.Muon(
            [weight], lr=0.1, weight_decay=0.0, momentum=0.9, nesterov=nesterov
        )
        norms[nesterov, dtype] = []
        for _ in range(2):
            weight.grad = torch.full((4, 6), 2.0, dtype=dtype)
            optimiser.step()
            buffer = optimiser.state[weight]["momentum_buffer"]
            norms[nesterov, dtype].append(buffer.float().norm().item())
        shown = " ".join(f"{norm:.3f}" for norm in norms[nesterov, dtype])
        print(f"nesterov {nesterov!s:5} {str(dtype).removeprefix('torch.'):8} buffer norms {shown}")

# The running mean of a constant gradient of norm 2 sqrt(24), with a weight of 0.1 a step.
expected = [2.0 * 24**0.5 * (1.0 - 0.9**step) for step in (1, 2)]
described = all(
    abs(found - (1.0 if key == (False, torch.bfloat16) else wanted)) < 0.02
    for key, values in norms.items()
    for found, wanted in zip(values, expected, strict=True)
)
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON
