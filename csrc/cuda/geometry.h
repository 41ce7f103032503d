// How a call is laid over CUDA threads. Host and device compute it alike, and the tests run it on the
// host: see tests/ops/device_on_host.cpp.
//
// A row is cut in pieces of at most kPieceElements; a group of threads takes one piece, unit by unit. A
// unit is the V elements whose noise indices are [V u, V u + V): a whole number of Philox blocks, and
// 128 bits where the data lie so. Neither the sums nor the noise depend on the size of the launch.
#pragma once

#include "../math/half.h"
#include "../math/noise.h"
#include "../rows.h"

namespace hvae::cuda {

constexpr int kThreads = 256;
constexpr std::int64_t kPieceElements = 8192;

// Elements per unit: 128 bits of float and the half types, 256 of double.
template <typename T>
constexpr int kUnit = sizeof(T) == 2 ? 8 : 4;

struct Geometry {
  Extent extent;
  std::int64_t pieces;  // per row
  std::int64_t items;   // pieces of all rows
  int group;            // threads per item, a power of two
  bool aligned;         // every unit is whole and every operand can be read 128 bits at a time
};

inline std::int64_t piece_count(const Extent& extent) {
  return (extent.cols + kPieceElements - 1) / kPieceElements;
}

// A warp for a row of up to 1,024 elements, fewer threads for short rows, a block for long ones.
inline int group_size(std::int64_t cols, int unit) {
  if (cols > 1024) {
    return kThreads;
  }
  int group = 1;
  while (group < 32 && group * unit < cols) {
    group *= 2;
  }
  return group;
}

inline bool rows_aligned(const void* data, std::int64_t outer_stride, std::int64_t inner_stride,
                         std::int64_t col_stride, int unit) {
  return data == nullptr ||
         (reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && outer_stride % unit == 0 &&
          inner_stride % unit == 0 && col_stride == 1);
}

inline bool is_aligned(const Operand& operand, int unit) {
  return rows_aligned(operand.data, operand.outer_stride, operand.inner_stride, operand.col_stride,
                      unit);
}

inline Geometry make_geometry(const Extent& extent, const Inputs& inputs, const Operand& d_z,
                              int unit) {
  const std::int64_t pieces = piece_count(extent);
  const bool whole = extent.cols % unit == 0 && extent.first_index % unit == 0;
  const bool aligned = whole && is_aligned(inputs.location, unit) &&
                       is_aligned(inputs.scale, unit) && is_aligned(inputs.mu_p, unit) &&
                       is_aligned(inputs.raw_p, unit) && is_aligned(d_z, unit);
  return {extent, pieces, extent.rows * pieces, group_size(extent.cols, unit), aligned};
}

// One group's work.
struct Item {
  std::int64_t row, begin, end;  // columns [begin, end) of the row
  std::uint64_t noise_index;     // of column 0
};

HVAE_INLINE Item item_at(const Geometry& geometry, std::int64_t index) {
  const Extent& extent = geometry.extent;
  const std::int64_t row = geometry.pieces == 1 ? index : index / geometry.pieces;
  const std::int64_t begin = (index - row * geometry.pieces) * kPieceElements;
  const std::int64_t rest = extent.cols - begin;
  const std::int64_t noise_row = extent.noise_rows == extent.rows ? row : row % extent.noise_rows;
  return {row, begin, begin + (rest < kPieceElements ? rest : kPieceElements),
          extent.first_index + static_cast<std::uint64_t>(noise_row * extent.cols)};
}

// The units of an item: `first` may begin before the item, the last may end after it.
struct Units {
  std::uint64_t first;
  int count;
};

HVAE_INLINE Units units_of(const Item& item, int unit) {
  const std::uint64_t begin = item.noise_index + static_cast<std::uint64_t>(item.begin);
  const std::uint64_t end = item.noise_index + static_cast<std::uint64_t>(item.end);
  const std::uint64_t first = begin / unit;
  return {first, static_cast<int>((end + unit - 1) / unit - first)};
}

// Column of the unit's first element; negative where the unit begins before the row.
HVAE_INLINE std::int64_t column_of(const Item& item, std::uint64_t unit_index, int unit) {
  return static_cast<std::int64_t>(unit_index * unit - item.noise_index);
}

HVAE_INLINE std::int64_t row_offset(const Operand& operand, const Extent& extent,
                                    std::int64_t row) {
  const std::int64_t outer = extent.inner == extent.rows ? 0 : row / extent.inner;
  return outer * operand.outer_stride + (row - outer * extent.inner) * operand.inner_stride;
}

}  // namespace hvae::cuda
