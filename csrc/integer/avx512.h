// Lanes of 512 bits; with VNNI one instruction multiplies and adds.
#pragma once

#include <immintrin.h>

#include "convolution.h"

namespace hvae::integer {
namespace {

struct Avx512 {
  using Vector = __m512i;
  static constexpr int kParts = 1, kGroups = 4;
  static constexpr int positions(int groups) { return groups == 4 ? 6 : 8; }

  static Vector load(const void* from) { return _mm512_loadu_si512(from); }
  static Vector pair(const std::int16_t* from) {
    std::int32_t both;
    std::memcpy(&both, from, sizeof both);
    return _mm512_set1_epi32(both);
  }
  static Vector dot(Vector sum, Vector values, Vector weights) {
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(sum, values, weights);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(values, weights));
#endif
  }
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

}  // namespace
}  // namespace hvae::integer
