// Loading, storing and drawing noise for one unit: the V elements one thread handles at a time.
#pragma once

#include "geometry.h"

namespace hvae::cuda {

template <typename T>
struct alignas(16) Packed {
  T values[kUnit<T>];
};

template <typename T>
struct Unit {
  using Real = typename Compute<T>::type;
  Real values[kUnit<T>];
};

// Whether element j of a unit that starts at `column` belongs to the item.
HVAE_INLINE bool inside(const Item& item, std::int64_t column, int j) {
  return column + j >= item.begin && column + j < item.end;
}

// Elements outside the item read as `filler`, a harmless value.
template <typename T, bool kAligned>
HVAE_INLINE Unit<T> load_unit(const Operand& operand, std::int64_t row_start, const Item& item,
                              std::int64_t column, typename Compute<T>::type filler) {
  const T* data = static_cast<const T*>(operand.data) + row_start;
  Unit<T> unit;
  if constexpr (kAligned) {
    const Packed<T> packed = *reinterpret_cast<const Packed<T>*>(data + column);
    HVAE_UNROLL
    for (int j = 0; j < kUnit<T>; ++j) {
      unit.values[j] = widen(packed.values[j]);
    }
  } else {
    HVAE_UNROLL
    for (int j = 0; j < kUnit<T>; ++j) {
      unit.values[j] = inside(item, column, j) ? widen(data[(column + j) * operand.col_stride])
                                               : filler;
    }
  }
  return unit;
}

// Outputs are contiguous: `target` points at column 0 of the row.
template <typename T, bool kAligned>
HVAE_INLINE void store_unit(const Unit<T>& unit, T* target, const Item& item,
                            std::int64_t column) {
  if constexpr (kAligned) {
    Packed<T> packed;
    HVAE_UNROLL
    for (int j = 0; j < kUnit<T>; ++j) {
      store(unit.values[j], &packed.values[j]);
    }
    *reinterpret_cast<Packed<T>*>(target + column) = packed;
  } else {
    HVAE_UNROLL
    for (int j = 0; j < kUnit<T>; ++j) {
      if (inside(item, column, j)) {
        store(unit.values[j], target + column + j);
      }
    }
  }
}

template <typename T>
HVAE_INLINE Unit<T> normal_unit(const Seed& seed, std::uint64_t unit_index) {
  Unit<T> unit;
  HVAE_UNROLL
  for (int quad = 0; quad < kUnit<T> / 4; ++quad) {
    const std::uint64_t block = unit_index * (kUnit<T> / 4) + quad;
    const Words words = philox(static_cast<std::uint32_t>(block),
                               static_cast<std::uint32_t>(block >> 32), {seed.seed, seed.offset});
    const NormalPair a = normals_of(words.w0, words.w1), b = normals_of(words.w2, words.w3);
    unit.values[4 * quad] = a.first;
    unit.values[4 * quad + 1] = a.second;
    unit.values[4 * quad + 2] = b.first;
    unit.values[4 * quad + 3] = b.second;
  }
  return unit;
}

template <typename T>
HVAE_INLINE Unit<T> uniform_unit(const Seed& seed, std::uint64_t unit_index) {
  Unit<T> unit;
  HVAE_UNROLL
  for (int quad = 0; quad < kUnit<T> / 4; ++quad) {
    const std::uint64_t block = unit_index * (kUnit<T> / 4) + quad;
    const Words words = philox(static_cast<std::uint32_t>(block),
                               static_cast<std::uint32_t>(block >> 32), {seed.seed, seed.offset});
    unit.values[4 * quad] = uniform_of(words.w0);
    unit.values[4 * quad + 1] = uniform_of(words.w1);
    unit.values[4 * quad + 2] = uniform_of(words.w2);
    unit.values[4 * quad + 3] = uniform_of(words.w3);
  }
  return unit;
}

// Where an item's row begins in each input.
struct RowStarts {
  std::int64_t location, scale, mu_p, raw_p;
};

HVAE_INLINE RowStarts row_starts(const Inputs& in, const Extent& extent, std::int64_t row) {
  return {row_offset(in.location, extent, row), row_offset(in.scale, extent, row),
          row_offset(in.mu_p, extent, row), row_offset(in.raw_p, extent, row)};
}

}  // namespace hvae::cuda
