// What lets one formula compile for the host and for CUDA.
//
// The host is compiled with -ffp-contract=off, so `a * b + c` rounds twice there. `mul` and `add` do
// the same on CUDA, where nvcc would contract them: noise built from them has the same bits on both,
// and under every instruction set of the host.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// HVAE_UNROLL: the loop after it has a small constant count and must leave no loop behind.
#if defined(__CUDACC__)
#define HVAE_INLINE __host__ __device__ __forceinline__
#define HVAE_UNROLL _Pragma("unroll")
#else
#define HVAE_INLINE inline __attribute__((always_inline))
#define HVAE_UNROLL _Pragma("GCC unroll 32")
#endif

namespace hvae {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

HVAE_INLINE float mul(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

HVAE_INLINE float add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

// a * b + c, rounded once where the machine has the instruction: for all that is not noise.
HVAE_INLINE float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__) || defined(__FP_FAST_FMAF)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

HVAE_INLINE double fused(double a, double b, double c) {
#if defined(__CUDA_ARCH__) || defined(__FP_FAST_FMA)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

HVAE_INLINE float from_bits(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

HVAE_INLINE std::uint32_t to_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

}  // namespace hvae
