#!/usr/bin/env bash
# What only a GPU can answer: builds the extension with CUDA, runs the tests marked `cuda`, trains a
# small sweep and a model of maps, and measures kernels, training steps and stacks of models. Needs a CUDA device, a CUDA
# toolkit (nvcc), an environment that holds the build requirements and the `dev` extra, and CIFAR-10
# (where HVAE_DATA says); no network.
#
#   benchmarks/gpu_check.sh [OUTPUT_DIR]      default: benchmarks/results; what is there is replaced
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=$(realpath -m -- "${1:-$root/benchmarks/results}")
python=${PYTHON:-python3}
cd "$root"

"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no CUDA device")'
HVAE_CUDA=1 "$python" -m pip install --quiet --no-build-isolation --no-deps --editable .
"$python" -c 'from hvae_codec import ops; print(ops.build_info())'
"$python" -m pytest -m cuda tests
mkdir -p "$output"
for dtype in float32 bfloat16; do
    "$python" -m benchmarks.training.kernels --device cuda --dtype "$dtype" \
        --json "$output/kernels_cuda_$dtype.json"
done
"$python" -m benchmarks.training.step --device cuda --json "$output/training_step_cuda.json"
"$python" -m benchmarks.training.sweep_speed --device cuda --json "$output/sweep_speed_cuda.json"
sweep=$(mktemp -d)
trap 'rm -rf -- "$sweep"' EXIT
"$python" -m hvae_codec.cli sweep --grid 3x3 --epochs 2 --precision bf16 --device cuda --output "$sweep"
"$python" -m hvae_codec.cli train --spec maps6-32x32x3 --data cifar10 --epochs 2 --precision bf16 \
    --device cuda --schedule hold --ema-decay 0.999 --gradient-norm 1 --name maps --output "$sweep/maps"
