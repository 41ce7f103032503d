// What every processor has: of x86 its first vectors, of others what the compiler makes of vectors
// of 16 bytes. A lane's values and weights lie in memory alike, so that the order of its bytes is
// the same for both.
#include "convolution.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace hvae::integer {
namespace {

#if defined(__SSE2__)
using Vector = __m128i;

Vector dot_words(Vector a, Vector b) { return _mm_madd_epi16(a, b); }
Vector plus(Vector a, Vector b) { return _mm_add_epi32(a, b); }
Vector in_all_lanes(std::int32_t some) { return _mm_set1_epi32(some); }

// Every other byte, as 16 bits.
Vector unsigned_bytes(Vector v, bool odd) {
  return odd ? _mm_srli_epi16(v, 8) : _mm_and_si128(v, _mm_set1_epi16(255));
}
Vector signed_bytes(Vector v, bool odd) {
  return _mm_srai_epi16(odd ? v : _mm_slli_epi16(v, 8), 8);
}
#else
using Vector = std::int32_t __attribute__((vector_size(16)));
using Words = std::int16_t __attribute__((vector_size(16)));
using UnsignedWords = std::uint16_t __attribute__((vector_size(16)));
using Unsigned = std::uint32_t __attribute__((vector_size(16)));

Vector lower_half(Vector v) { return (Vector)((Unsigned)v << 16) >> 16; }
Vector dot_words(Vector a, Vector b) {
  return lower_half(a) * lower_half(b) + (a >> 16) * (b >> 16);
}
Vector plus(Vector a, Vector b) { return a + b; }
Vector in_all_lanes(std::int32_t some) { return Vector{some, some, some, some}; }

Vector unsigned_bytes(Vector v, bool odd) {
  const UnsignedWords words = (UnsignedWords)v;
  return (Vector)(odd ? words >> 8 : words & 255);
}
Vector signed_bytes(Vector v, bool odd) {
  const UnsignedWords shifted = (UnsignedWords)v << (odd ? 0 : 8);
  return (Vector)((Words)shifted >> 8);
}
#endif

struct Baseline {
  using Vector = integer::Vector;
  static constexpr int kParts = 4;

  static Vector load(const void* from) {
    Vector loaded;
    std::memcpy(&loaded, from, sizeof loaded);
    return loaded;
  }
  static void narrow(Vector sums, const float* positive, const float* negative,
                     const std::int16_t* added, std::int16_t low, std::int16_t high,
                     std::int16_t* to) {
    std::int32_t sum[4];
    std::memcpy(sum, &sums, sizeof sum);
    for (int n = 0; n < 4; ++n) {
      const float product = static_cast<float>(sum[n]) * (sum[n] < 0 ? negative[n] : positive[n]);
      const float bounded = std::min(std::max(product, -kLargest), kLargest);
      const std::int32_t result = added[n] + static_cast<std::int32_t>(rounded(bounded));
      to[n] = static_cast<std::int16_t>(
          std::min<std::int32_t>(std::max<std::int32_t>(result, low), high));
    }
  }
};

Vector some_in_all_lanes(const void* from) {
  std::int32_t some;
  std::memcpy(&some, from, sizeof some);
  return in_all_lanes(some);
}

struct BaselineWords {
  using Lanes = Baseline;
  using Value = std::int16_t;
  using Weight = std::int16_t;
  using Values = Vector;
  using Weights = Vector;
  static constexpr int kPerLane = 2, kGroups = 1;
  static constexpr Value kAround = 0;
  static constexpr int positions(int) { return 2; }

  static Values values(const Value* from) { return some_in_all_lanes(from); }
  static Weights weights(const Weight* from) { return Lanes::load(from); }
  static Vector dot(Vector sum, Values values, Weights weights) {
    return plus(sum, dot_words(values, weights));
  }
};

struct BaselineBytes {
  using Lanes = Baseline;
  using Value = std::uint8_t;
  using Weight = std::int8_t;
  struct Values {
    Vector even, odd;
  };
  using Weights = Values;
  static constexpr int kPerLane = 4, kGroups = 1;
  static constexpr Value kAround = 128;
  static constexpr int positions(int) { return 2; }

  static Values values(const Value* from) {
    const Vector all = some_in_all_lanes(from);
    return {unsigned_bytes(all, false), unsigned_bytes(all, true)};
  }
  static Weights weights(const Weight* from) {
    const Vector all = Lanes::load(from);
    return {signed_bytes(all, false), signed_bytes(all, true)};
  }
  static Vector dot(Vector sum, const Values& values, const Weights& weights) {
    const Vector both = plus(dot_words(values.even, weights.even), dot_words(values.odd, weights.odd));
    return plus(sum, both);
  }
};

}  // namespace

const Kernels kBaseline = make_kernels<BaselineWords, BaselineBytes>("baseline");

}  // namespace hvae::integer
