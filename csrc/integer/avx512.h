// Lanes of 512 bits; with VNNI one instruction multiplies and adds.
#pragma once

#include <immintrin.h>

#include "convolution.h"

namespace hvae::integer {
namespace {

struct Avx512 {
  using Vector = __m512i;
  static constexpr int kParts = 1;

  static Vector load(const void* from) { return _mm512_loadu_si512(from); }
  static void narrow(Vector sum, const float* positive, const float* negative,
                     const std::int16_t* added, std::int16_t low, std::int16_t high,
                     std::int16_t* to) {
    const __m512 factor =
        _mm512_mask_blend_ps(_mm512_movepi32_mask(sum), _mm512_loadu_ps(positive),
                             _mm512_loadu_ps(negative));
    __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), factor);
    product = _mm512_max_ps(product, _mm512_set1_ps(-kLargest));
    product = _mm512_min_ps(product, _mm512_set1_ps(kLargest));
    const Vector rounded =
        _mm512_cvt_roundps_epi32(product, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i with = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(added));
    const Vector total = _mm512_add_epi32(rounded, _mm512_cvtepi16_epi32(with));
    __m256i result = _mm512_cvtsepi32_epi16(total);  // beyond 16 bits it is beyond the bounds
    result = _mm256_max_epi16(result, _mm256_set1_epi16(low));
    result = _mm256_min_epi16(result, _mm256_set1_epi16(high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), result);
  }
};

inline __m512i in_all_lanes(const void* from) {
  std::int32_t some;
  std::memcpy(&some, from, sizeof some);
  return _mm512_set1_epi32(some);
}

struct Avx512Words {
  using Lanes = Avx512;
  using Value = std::int16_t;
  using Weight = std::int16_t;
  using Values = __m512i;
  using Weights = __m512i;
  static constexpr int kPerLane = 2, kGroups = 4;
  static constexpr Value kAround = 0;
  static constexpr int positions(int groups) { return groups == 4 ? 6 : 8; }

  static Values values(const Value* from) { return in_all_lanes(from); }
  static Weights weights(const Weight* from) { return Lanes::load(from); }
  static __m512i dot(__m512i sum, Values values, Weights weights) {
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(sum, values, weights);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(values, weights));
#endif
  }
};

#if defined(__AVX512VNNI__)
struct Avx512Bytes {
  using Lanes = Avx512;
  using Value = std::uint8_t;
  using Weight = std::int8_t;
  using Values = __m512i;
  using Weights = __m512i;
  static constexpr int kPerLane = 4, kGroups = 4;
  static constexpr Value kAround = 128;
  static constexpr int positions(int groups) { return groups == 4 ? 6 : 8; }

  static Values values(const Value* from) { return in_all_lanes(from); }
  static Weights weights(const Weight* from) { return Lanes::load(from); }
  static __m512i dot(__m512i sum, Values values, Weights weights) {
    return _mm512_dpbusd_epi32(sum, values, weights);
  }
};
#else
// Products of bytes with one sum of two would be cut off at 16 bits: so both become 16 bits first.
struct Avx512Bytes {
  using Lanes = Avx512;
  using Value = std::uint8_t;
  using Weight = std::int8_t;
  struct Values {
    __m512i even, odd;
  };
  using Weights = Values;
  static constexpr int kPerLane = 4, kGroups = 3;
  static constexpr Value kAround = 128;
  static constexpr int positions(int groups) { return groups == 3 ? 6 : 8; }

  static Values values(const Value* from) {
    const __m512i all = in_all_lanes(from);
    return {_mm512_and_si512(all, _mm512_set1_epi16(255)), _mm512_srli_epi16(all, 8)};
  }
  static Weights weights(const Weight* from) {
    const __m512i all = Lanes::load(from);
    return {_mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8), _mm512_srai_epi16(all, 8)};
  }
  static __m512i dot(__m512i sum, const Values& values, const Weights& weights) {
    const __m512i even = _mm512_madd_epi16(values.even, weights.even);
    const __m512i odd = _mm512_madd_epi16(values.odd, weights.odd);
    return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
  }
};
#endif

}  // namespace
}  // namespace hvae::integer
