#!/usr/bin/env bash
# What only a GPU can answer: builds the extension with CUDA, runs the tests marked `cuda` and
# measures the kernels. Needs a CUDA device, a CUDA toolkit (nvcc) and an environment that holds the
# build requirements and the `dev` extra; no network.
#
#   benchmarks/gpu_check.sh [OUTPUT_DIR]      default: benchmarks/results
set -euo pipefail
cd "$(dirname "$0")/.."
output=${1:-benchmarks/results}
python=${PYTHON:-python3}

"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no CUDA device")'
HVAE_CUDA=1 "$python" -m pip install --quiet --no-build-isolation --no-deps --editable .
"$python" -c 'from hvae_codec import ops; print(ops.build_info())'
"$python" -m pytest -m cuda tests
mkdir -p "$output"
for dtype in float32 bfloat16; do
    "$python" -m benchmarks.kernels --device cuda --dtype "$dtype" \
        --json "$output/kernels_cuda_$dtype.json" --picture "$output/kernels_cuda_$dtype.png"
done
