#!/usr/bin/env bash
# constriction refuses models of one symbol: with a wrong reason, or by a panic.
#
# A distribution over one symbol is valid and costs no bits; a latent dimension that is always 0 has
# one. `Categorical` of one probability 1.0 raises a ValueError whose reasons are an empty array,
# negative values, NaNs and an infinite sum: none applies. `Uniform(1)` raises PanicException, which
# derives from BaseException: `except Exception` does not catch it. A row of one probability fails in
# `encode` likewise. So dimensions of one symbol have to be left out of the stream by the caller.
#
# Seen with constriction 0.5.0 (Python):
#   Categorical([1.0], perfect=False): ValueError, perfect=True: ValueError
#   Uniform(1): PanicException, an Exception: False
#   two symbols, [1.0, 0.0]: encodes and decodes
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet constriction==0.5.0 numpy==2.3.4
"$folder/venv/bin/python" 2>/dev/null - <<'PYTHON'
import sys
from importlib.metadata import version

import constriction
import numpy as np

print("constriction", version("constriction"))
model = constriction.stream.model


def raised(make):
    try:
        make()
    except BaseException as error:
        return error
    return None


errors = [raised(lambda: model.Categorical(np.array([1.0]), perfect=p)) for p in (False, True)]
print("Categorical([1.0]):", *(f"{type(error).__name__}: {error}" for error in errors))
panic = raised(lambda: model.Uniform(1))
print(f"Uniform(1): {type(panic).__name__}, an Exception: {isinstance(panic, Exception)}")
two = model.Categorical(np.array([1.0, 0.0]), perfect=False)
encoder = constriction.stream.queue.RangeEncoder()
encoder.encode(np.zeros(5, np.int32), two)
decoded = constriction.stream.queue.RangeDecoder(encoder.get_compressed()).decode(two, 5)
print("two symbols, [1.0, 0.0]:", decoded.tolist())
described = all(isinstance(error, ValueError) and "NaNs" in str(error) for error in errors)
described &= type(panic).__name__ == "PanicException" and not isinstance(panic, Exception)
described &= decoded.tolist() == [0] * 5
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON
