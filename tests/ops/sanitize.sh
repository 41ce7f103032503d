#!/usr/bin/env bash
# Builds csrc's CPU kernels and device code with AddressSanitizer and UndefinedBehaviorSanitizer and
# runs them through sanitize.cpp. Fails on any finding. Usage: sanitize.sh BUILD_FOLDER
set -euo pipefail
build=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
cxx=${CXX:-c++}
mkdir -p "$build"
flags=(-std=c++17 -O1 -g -Wall -Wextra -Werror -ffp-contract=off -fno-math-errno -fno-trapping-math)
flags+=(-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all)
flags+=(-fno-omit-frame-pointer)
avx2=(-mavx2 -mfma)
avx512=("${avx2[@]}" -mavx512f -mavx512bw -mavx512dq -mavx512vl)
sources=(baseline dispatch)
case $(uname -m) in
  x86_64 | amd64) flags+=(-DHVAE_X86); sources+=(avx2 avx512) ;;
esac
objects=()
for source in "${sources[@]}"; do
  extra=()
  [ "$source" = avx2 ] && extra=("${avx2[@]}")
  [ "$source" = avx512 ] && extra=("${avx512[@]}")
  "$cxx" "${flags[@]}" "${extra[@]}" -c "$root/csrc/cpu/$source.cpp" -o "$build/$source.o"
  objects+=("$build/$source.o")
done
"$cxx" "${flags[@]}" "$root/tests/ops/sanitize.cpp" "${objects[@]}" -o "$build/sanitize"
UBSAN_OPTIONS=print_stacktrace=1 "$build/sanitize"
