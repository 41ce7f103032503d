#!/usr/bin/env bash
# Decodes the golden files with another version of torch, in an environment of its own, and without
# torchvision: the codec does not need it. Usage: second_torch.sh PYTHON TORCH_VERSION BUILD_FOLDER [JSON]
set -euo pipefail
python=$1 version=$2 build=$3 json=${4:-}
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$build"
build=$(cd "$build" && pwd)
venv=$build/torch-$version
if [ ! -e "$venv/ready" ]; then
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet "torch==$version" 'constriction>=0.5,<0.6' 'numpy>=2.0' \
    'pillow>=11.3' 'safetensors>=0.5' 'tqdm>=4.66' 'setuptools>=77' ninja 'pybind11>=2.13'
  touch "$venv/ready"
fi
# The package alone, built from a copy of its sources against this torch.
copy=$build/source-$version
rm -rf "$copy"
mkdir -p "$copy"
cp -r "$root/csrc" "$root/hvae_codec" "$root/server" "$root/setup.py" "$root/pyproject.toml" \
  "$root/README.md" "$root/LICENSE" "$copy"
rm -f "$copy"/hvae_codec/*.so
HVAE_CUDA=0 "$venv/bin/pip" install --quiet --no-build-isolation --no-deps --force-reinstall "$copy"
cd "$build"
"$venv/bin/python" "$root/benchmarks/codec/golden_files.py" "$root/tests/golden" ${json:+--json "$json"}
