#include "convolution.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace hvae::integer {
namespace {

// What every processor has: of x86 its first vectors, of others what the compiler makes of loops.
struct Baseline {
  static constexpr int kParts = 4, kGroups = 1;
  static constexpr int positions(int) { return 2; }

#if defined(__SSE2__)
  using Vector = __m128i;
#else
  using Vector = std::int32_t __attribute__((vector_size(16)));
#endif

  static Vector load(const void* from) {
    Vector loaded;
    std::memcpy(&loaded, from, sizeof loaded);
    return loaded;
  }
  static Vector pair(const std::int16_t* from) {
    std::int32_t both;
    std::memcpy(&both, from, sizeof both);
#if defined(__SSE2__)
    return _mm_set1_epi32(both);
#else
    return Vector{both, both, both, both};
#endif
  }
  static Vector dot(Vector sum, Vector values, Vector weights) {
#if defined(__SSE2__)
    return _mm_add_epi32(sum, _mm_madd_epi16(values, weights));
#else
    // The two halves of a lane, whichever comes first in memory: both are multiplied and added.
    constexpr int half = 16;
    const auto lower = [](Vector v) {
      using Unsigned = std::uint32_t __attribute__((vector_size(16)));
      return (Vector)((Unsigned)v << half) >> half;
    };
    return sum + lower(values) * lower(weights) + (values >> half) * (weights >> half);
#endif
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
      to[n] = static_cast<std::int16_t>(std::min<std::int32_t>(
          std::max<std::int32_t>(result, low), high));
    }
  }

 private:
  // The nearest integer, halves to the even one, of a magnitude below 2^22.
  static float rounded(float value) {
    constexpr float shift = 12582912.0F;
    return (value + shift) - shift;
  }
};

}  // namespace

const Kernels kBaseline = {"baseline", convolve<Baseline>};

}  // namespace hvae::integer
