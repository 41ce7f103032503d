#include <immintrin.h>

#include "convolution.h"

namespace hvae::integer {
namespace {

struct Avx2 {
  using Vector = __m256i;
  static constexpr int kParts = 2;

  static Vector load(const void* from) {
    return _mm256_loadu_si256(static_cast<const Vector*>(from));
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

__m256i in_all_lanes(const void* from) {
  std::int32_t some;
  std::memcpy(&some, from, sizeof some);
  return _mm256_set1_epi32(some);
}

struct Avx2Words {
  using Lanes = Avx2;
  using Value = std::int16_t;
  using Weight = std::int16_t;
  using Values = __m256i;
  using Weights = __m256i;
  static constexpr int kPerLane = 2, kGroups = 1;
  static constexpr Value kAround = 0;
  static constexpr int positions(int) { return 6; }

  static Values values(const Value* from) { return in_all_lanes(from); }
  static Weights weights(const Weight* from) { return Lanes::load(from); }
  static __m256i dot(__m256i sum, Values values, Weights weights) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(values, weights));
  }
};

// Products of bytes with one sum of two would be cut off at 16 bits: so both become 16 bits first.
struct Avx2Bytes {
  using Lanes = Avx2;
  using Value = std::uint8_t;
  using Weight = std::int8_t;
  struct Values {
    __m256i even, odd;
  };
  using Weights = Values;
  static constexpr int kPerLane = 4, kGroups = 1;
  static constexpr Value kAround = 128;
  static constexpr int positions(int) { return 4; }

  static Values values(const Value* from) {
    const __m256i all = in_all_lanes(from);
    return {_mm256_and_si256(all, _mm256_set1_epi16(255)), _mm256_srli_epi16(all, 8)};
  }
  static Weights weights(const Weight* from) {
    const __m256i all = Lanes::load(from);
    return {_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
  }
  static __m256i dot(__m256i sum, const Values& values, const Weights& weights) {
    const __m256i even = _mm256_madd_epi16(values.even, weights.even);
    const __m256i odd = _mm256_madd_epi16(values.odd, weights.odd);
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
  }
};

}  // namespace

const Kernels kAvx2 = make_kernels<Avx2Words, Avx2Bytes>("avx2");

}  // namespace hvae::integer
