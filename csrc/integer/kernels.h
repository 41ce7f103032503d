// A convolution of integers behind function pointers, one per instruction set. No torch here.
//
// Integers have no order of summation, and a product by one float32 rounds alike on every IEEE
// machine: so all instruction sets give the same bits. docs/INTEGER.md states the arithmetic.
#pragma once

#include <cstdint>

namespace hvae::integer {

constexpr int kGroup = 16;           // outputs whose weights lie side by side
constexpr int kMaxInputs = 2;        // tensors that one convolution takes side by side
constexpr int kMaxChannels = 4096;   // of one of them

// Channels [N, height, width, channels] of one input: int16, or uint8 that stand for 128 less.
struct Input {
  const void* values;
  std::int64_t channels;
};

// What becomes of the sums: low <= residual + round(sum * factor) <= high, halves to even.
struct Output {
  std::int32_t* sums;            // what the sums are added to as they are, or
  std::int16_t* values;          // results, or
  std::uint8_t* pixels;          // results; two of the three are null
  const std::int16_t* residual;  // null, or as large as `values`
  const float* positive;         // [groups * kGroup], for accumulators of 0 and more
  const float* negative;         // [groups * kGroup], for those below 0
  std::int16_t low, high;
  std::int64_t shuffle;          // r: outputs [r][r][c] of a position are r x r positions of c
};

struct Convolution {
  Input inputs[kMaxInputs];
  int input_count;
  std::int64_t height, width;          // of the inputs
  std::int64_t out_height, out_width;  // before the shuffle
  std::int64_t outputs;                // the last group may have more than are used
  int kernel, stride, padding;
  // int16 [groups][input, row, column][channels / 2][kGroup][2]; of bytes int8 [..][channels / 4]
  // [kGroup][4]. That bytes stand for 128 less is in the bias.
  const void* weights;
  const std::int32_t* bias;  // [groups * kGroup], or null for zeros
  Output output;
};

// Rows [begin, end) of the N * out_height rows of positions.
using Convolve = void (*)(const Convolution&, std::int64_t begin, std::int64_t end);

// result = 128 + round(value * factor), the rounded product within +-127.
using Narrow = void (*)(const std::int16_t* values, std::int64_t count, float factor,
                        std::uint8_t* results);

struct Kernels {
  const char* simd_level;
  Convolve convolve;        // of inputs int16
  Convolve convolve_bytes;  // of inputs uint8
  Narrow narrow;
};

// The best this processor can run, chosen once. HVAE_SIMD lowers it (../simd.h).
const Kernels& kernels();

extern const Kernels kBaseline;
#if defined(HVAE_X86)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;
#endif

}  // namespace hvae::integer
