#!/usr/bin/env bash
# Builds csrc's CPU kernels and device code with AddressSanitizer and UndefinedBehaviorSanitizer and
# runs them through sanitize.cpp and integer/sanitize.cpp. Fails on any finding. Usage: sanitize.sh BUILD_FOLDER
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
integer=(baseline dispatch)
case $(uname -m) in
  x86_64 | amd64)
    flags+=(-DHVAE_X86)
    sources+=(avx2 avx512)
    integer+=(avx2 avx512 avx512vnni)
    ;;
esac
compile() {  # FOLDER SOURCE
  local extra=()
  case $2 in
    avx2) extra=("${avx2[@]}") ;;
    avx512) extra=("${avx512[@]}") ;;
    avx512vnni) extra=("${avx512[@]}" -mavx512vnni) ;;
  esac
  "$cxx" "${flags[@]}" "${extra[@]}" -c "$root/csrc/$1/$2.cpp" -o "$build/$1-$2.o"
}
export UBSAN_OPTIONS=print_stacktrace=1
for source in "${sources[@]}"; do compile cpu "$source"; done
"$cxx" "${flags[@]}" "$root/tests/ops/sanitize.cpp" "$build"/cpu-*.o -o "$build/sanitize"
"$build/sanitize"
# GCC 12 takes the undefined operands in its own header of intrinsics for a mistake.
flags+=(-Wno-maybe-uninitialized)
for source in "${integer[@]}"; do compile integer "$source"; done
"$cxx" "${flags[@]}" "$root/tests/ops/integer/sanitize.cpp" "$build"/integer-*.o \
  -o "$build/sanitize-integer"
"$build/sanitize-integer"
