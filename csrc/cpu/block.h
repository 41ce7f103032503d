// Moving one block of a call between tensors and buffers in cache. Included once per instruction set.
#pragma once

#include "../math/half.h"
#include "../math/noise.h"
#include "kernels.h"

// The loop's iterations touch different elements: no need to prove or test that pointers differ.
#if defined(__clang__)
#define HVAE_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define HVAE_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace hvae::cpu {
namespace {

struct Block {
  std::int64_t row, rows;  // rows [row, row + rows)
  std::int64_t col, cols;  // columns of each; rows == 1 unless a block holds whole rows
  std::int64_t linear;     // of the first element in the outputs
  std::int64_t count;      // rows * cols
};

inline Block block_at(const Extent& extent, std::int64_t index) {
  const std::int64_t pieces = piece_count(extent);
  if (pieces > 1) {
    const std::int64_t row = index / pieces, col = index % pieces * kBlockElements;
    const std::int64_t rest = extent.cols - col;
    const std::int64_t cols = rest < kBlockElements ? rest : kBlockElements;
    return {row, 1, col, cols, row * extent.cols + col, cols};
  }
  const std::int64_t most = rows_per_block(extent), row = index * most;
  const std::int64_t rows = extent.rows - row < most ? extent.rows - row : most;
  return {row, rows, 0, extent.cols, row * extent.cols, rows * extent.cols};
}

inline std::int64_t row_offset(const Operand& operand, const Extent& extent, std::int64_t row) {
  return row / extent.inner * operand.outer_stride + row % extent.inner * operand.inner_stride;
}

inline bool is_dense(const Operand& operand, const Extent& extent, const Block& block) {
  const bool rows_follow = operand.inner_stride == extent.cols &&
                           operand.outer_stride == extent.inner * extent.cols;
  return operand.col_stride == 1 && (rows_follow || block.rows == 1);
}

template <typename T, typename Real>
inline void widen_all(const T* __restrict source, Real* __restrict target, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    target[i] = widen(source[i]);
  }
}

// The block's values in the computing type: in place where they already lie so, else in `buffer`.
template <typename T, typename Real = typename Compute<T>::type>
inline const Real* gather(const Operand& operand, const Extent& extent, const Block& block,
                          Real* __restrict buffer) {
  const T* data = static_cast<const T*>(operand.data);
  if (is_dense(operand, extent, block)) {
    data += row_offset(operand, extent, block.row) + block.col;
    if constexpr (sizeof(T) == sizeof(Real)) {
      return data;
    } else {
      widen_all(data, buffer, block.count);
      return buffer;
    }
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const T* source = data + row_offset(operand, extent, block.row + r) +
                      block.col * operand.col_stride;
    Real* target = buffer + r * block.cols;
    if (operand.col_stride == 1) {
      widen_all(source, target, block.cols);
    } else {
      for (std::int64_t i = 0; i < block.cols; ++i) {
        target[i] = widen(source[i * operand.col_stride]);
      }
    }
  }
  return buffer;
}

// One value per row, repeated over the columns.
template <typename Real>
inline void spread(const Operand& operand, const Extent& extent, const Block& block,
                   Real* __restrict buffer) {
  const Real* data = static_cast<const Real*>(operand.data);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const Real value = data == nullptr ? Real(0) : data[row_offset(operand, extent, block.row + r)];
    for (std::int64_t i = 0; i < block.cols; ++i) {
      buffer[r * block.cols + i] = value;
    }
  }
}

// Sum of each row of `terms`: 16 running sums, then their tree; the same for every vector width.
template <typename Real>
inline void sum_rows(const Real* terms, const Extent& extent, const Block& block, Real* partials) {
  const std::int64_t pieces = piece_count(extent);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const Real* row = terms + r * block.cols;
    Real lanes[16] = {};
    std::int64_t i = 0;
    for (; i + 16 <= block.cols; i += 16) {
      for (int lane = 0; lane < 16; ++lane) {
        lanes[lane] += row[i + lane];
      }
    }
    for (int lane = 0; i < block.cols; ++i, ++lane) {
      lanes[lane] += row[i];
    }
    for (int width = 8; width > 0; width /= 2) {
      for (int lane = 0; lane < width; ++lane) {
        lanes[lane] += lanes[lane + width];
      }
    }
    partials[(block.row + r) * pieces + block.col / kBlockElements] = lanes[0];
  }
}

constexpr std::int64_t kNoiseBuffer = kBlockElements + 64;  // whole groups of 16 Philox blocks

struct WordBuffers {
  std::uint32_t w0[kNoiseBuffer / 4], w1[kNoiseBuffer / 4];
  std::uint32_t w2[kNoiseBuffer / 4], w3[kNoiseBuffer / 4];
};

struct NormalNoise {
  static inline void fill(const WordBuffers& words, std::int32_t blocks, float* __restrict target) {
    HVAE_INDEPENDENT
    for (std::int32_t i = 0; i < blocks; ++i) {
      const NormalPair a = normals_of(words.w0[i], words.w1[i]);
      const NormalPair b = normals_of(words.w2[i], words.w3[i]);
      target[4 * i] = a.first;
      target[4 * i + 1] = a.second;
      target[4 * i + 2] = b.first;
      target[4 * i + 3] = b.second;
    }
  }
};

struct UniformNoise {
  static inline void fill(const WordBuffers& words, std::int32_t blocks, float* __restrict target) {
    HVAE_INDEPENDENT
    for (std::int32_t i = 0; i < blocks; ++i) {
      target[4 * i] = uniform_of(words.w0[i]);
      target[4 * i + 1] = uniform_of(words.w1[i]);
      target[4 * i + 2] = uniform_of(words.w2[i]);
      target[4 * i + 3] = uniform_of(words.w3[i]);
    }
  }
};

// Noise of elements [first, first + count); returns where in `buffer` it begins.
template <typename Noise>
inline const float* draw(NoiseKey key, std::uint64_t first, std::int64_t count,
                         float* __restrict buffer) {
  const std::uint64_t first_block = first / 4;
  const std::int64_t skipped = static_cast<std::int64_t>(first % 4);
  const std::int32_t blocks = static_cast<std::int32_t>((skipped + count + 3) / 4 + 15) / 16 * 16;
  const std::uint32_t low = static_cast<std::uint32_t>(first_block);
  const std::uint32_t high = static_cast<std::uint32_t>(first_block >> 32);
  WordBuffers buffers;
  HVAE_INDEPENDENT
  for (std::int32_t i = 0; i < blocks; ++i) {
    const std::uint32_t c0 = low + static_cast<std::uint32_t>(i);
    const Words words = philox(c0, high + (c0 < low ? 1u : 0u), key);
    buffers.w0[i] = words.w0;
    buffers.w1[i] = words.w1;
    buffers.w2[i] = words.w2;
    buffers.w3[i] = words.w3;
  }
  Noise::fill(buffers, blocks, buffer);
  return buffer + skipped;
}

// The block's noise, in logical order of its elements, in the computing type.
template <typename Noise, typename Real>
inline void draw_block(const Seed& seed, const Extent& extent, const Block& block,
                       Real* __restrict target) {
  float buffer[kNoiseBuffer];
  const NoiseKey key{seed.seed, seed.offset};
  const bool one_run = extent.noise_rows == extent.rows;
  const std::int64_t runs = one_run ? 1 : block.rows, length = block.count / runs;
  for (std::int64_t run = 0; run < runs; ++run) {
    const std::int64_t row = (block.row + run) % extent.noise_rows;
    const std::uint64_t index = static_cast<std::uint64_t>(row * extent.cols + block.col);
    const float* noise = draw<Noise>(key, extent.first_index + index, length, buffer);
    widen_all(noise, target + run * length, length);
  }
}

}  // namespace
}  // namespace hvae::cpu
