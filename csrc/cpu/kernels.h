// The CPU kernels behind function pointers, one table per instruction set. No torch here.
#pragma once

#include "../rows.h"

namespace hvae::cpu {

// A block is what one pass of the kernel holds in cache: several whole rows, or a piece of one.
constexpr std::int64_t kBlockElements = 512;

inline std::int64_t piece_count(const Extent& extent) {  // blocks per row, 1 if a row fits
  return extent.cols <= kBlockElements ? 1
                                       : (extent.cols + kBlockElements - 1) / kBlockElements;
}

inline std::int64_t rows_per_block(const Extent& extent) {
  return extent.cols <= kBlockElements ? kBlockElements / extent.cols : 1;
}

inline std::int64_t block_count(const Extent& extent) {
  const std::int64_t rows = rows_per_block(extent);
  return (extent.rows + rows - 1) / rows * piece_count(extent);
}

// Each works on blocks [begin, end); blocks are independent, so any split gives the same bits.
using Forward = void (*)(DType, const Extent&, const Inputs&, const Seed&, const ForwardOutputs&,
                         std::int64_t begin, std::int64_t end);
using Backward = void (*)(DType, const Extent&, const BackwardInputs&, const Seed&,
                          const BackwardOutputs&, std::int64_t begin, std::int64_t end);

// Sums the pieces of every row, in order and in float64.
using Combine = void (*)(DType, std::int64_t rows, std::int64_t pieces, const ForwardOutputs&);

struct Kernels {
  const char* simd_level;
  Forward gaussian_forward;
  Backward gaussian_backward;
  Forward uniform_forward;
  Backward uniform_backward;
  Combine combine;
};

// The best table this processor can run, chosen once. HVAE_SIMD lowers it (../simd.h).
const Kernels& kernels();

extern const Kernels kBaseline;
#if defined(HVAE_X86)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace hvae::cpu
