// bfloat16 and float16 as 16 bits of storage, converted on the host by integer arithmetic that
// vectorises; CUDA converts with its own instructions. Rounding is to nearest, ties to even.
#pragma once

#include "target.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace hvae {

struct BFloat16 {
  std::uint16_t bits;
};

struct Float16 {
  std::uint16_t bits;
};

HVAE_INLINE float widen(float value) { return value; }
HVAE_INLINE double widen(double value) { return value; }

HVAE_INLINE float widen(BFloat16 value) {
  return from_bits(static_cast<std::uint32_t>(value.bits) << 16);
}

HVAE_INLINE float widen(Float16 value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7FFFu) << 13;
  const float finite = from_bits(magnitude) * 0x1p112f;
  const float special = from_bits(magnitude | 0x7F800000u);
  return from_bits(to_bits(magnitude >= 0x0F800000u ? special : finite) | sign);
#endif
}

template <typename T>
HVAE_INLINE T narrow_to(float value);

template <>
HVAE_INLINE float narrow_to<float>(float value) {
  return value;
}

template <>
HVAE_INLINE BFloat16 narrow_to<BFloat16>(float value) {
#if defined(__CUDA_ARCH__)
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  const std::uint32_t bits = to_bits(value);
  const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return {static_cast<std::uint16_t>(nan ? 0x7FC0u : rounded)};
#endif
}

template <>
HVAE_INLINE Float16 narrow_to<Float16>(float value) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(value))};
#else
  const std::uint32_t bits = to_bits(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  // Normal: rebias the exponent and round the 13 bits that fall off.
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
  // Subnormal: adding 1/2 lines the bits of a multiple of 2^-24 up with the end of the fraction.
  const std::uint32_t subnormal = to_bits(from_bits(magnitude) + 0.5f) - 0x3F000000u;
  const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const std::uint32_t overflow = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
  return {static_cast<std::uint16_t>((magnitude >= 0x477FF000u ? overflow : finite) | sign)};
#endif
}

HVAE_INLINE void store(float value, float* target) { *target = value; }
HVAE_INLINE void store(double value, double* target) { *target = value; }
HVAE_INLINE void store(float value, BFloat16* target) { *target = narrow_to<BFloat16>(value); }
HVAE_INLINE void store(float value, Float16* target) { *target = narrow_to<Float16>(value); }

// The type a stored value is computed in.
template <typename T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

}  // namespace hvae
