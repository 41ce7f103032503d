#include <immintrin.h>

#include "convolution.h"

namespace hvae::integer {
namespace {

struct Avx2 {
  using Vector = __m256i;
  static constexpr int kParts = 2, kGroups = 1;
  static constexpr int positions(int) { return 6; }

  static Vector load(const void* from) {
    return _mm256_loadu_si256(static_cast<const Vector*>(from));
  }
  static Vector pair(const std::int16_t* from) {
    std::int32_t both;
    std::memcpy(&both, from, sizeof both);
    return _mm256_set1_epi32(both);
  }
  static Vector dot(Vector sum, Vector values, Vector weights) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(values, weights));
  }
  static void narrow(Vector sum, const float* positive, const float* negative,
                     const std::int16_t* added, std::int16_t low, std::int16_t high,
                     std::int16_t* to) {
    const __m256 factor = _mm256_blendv_ps(_mm256_loadu_ps(positive), _mm256_loadu_ps(negative),
                                           _mm256_castsi256_ps(sum));
    __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), factor);
    product = _mm256_max_ps(product, _mm256_set1_ps(-kLargest));
    product = _mm256_min_ps(product, _mm256_set1_ps(kLargest));
    product = _mm256_round_ps(product, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i with = _mm_loadu_si128(reinterpret_cast<const __m128i*>(added));
    const Vector total = _mm256_add_epi32(_mm256_cvtps_epi32(product), _mm256_cvtepi16_epi32(with));
    // Beyond 16 bits it is beyond the bounds.
    __m128i result =
        _mm_packs_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    result = _mm_max_epi16(result, _mm_set1_epi16(low));
    result = _mm_min_epi16(result, _mm_set1_epi16(high));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), result);
  }
};

}  // namespace

const Kernels kAvx2 = {"avx2", convolve<Avx2>};

}  // namespace hvae::integer
