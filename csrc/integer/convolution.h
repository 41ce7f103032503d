// The convolution for one instruction set: tiles of positions by groups of outputs, in registers.
//
// Lanes has `Vector`, kParts vectors to a group of outputs,
//   load(const void*): a vector of lanes of 32 bits, and
//   narrow(sum, positive, negative, added, low, high, to): the results of a vector of sums.
// Products adds, for the type `Value` of which kPerLane fill a lane,
//   values(const Value*): some neighbours in every lane, weights(const void*): those of the lanes,
//   dot(sum, values, weights): sum + the products of both, lane by lane,
//   kAround: the value that lies around an image, and kGroups and positions(groups) of a tile.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels.h"

namespace hvae::integer {
namespace {

constexpr std::int16_t kZeros[kMaxChannels] = {};

// The nearest integer, halves to the even one, of a magnitude below 2^22.
inline float rounded(float value) {
  constexpr float shift = 12582912.0F;
  return (value + shift) - shift;
}

// What lies around an image.
template <typename Products>
const typename Products::Value* around() {
  static const auto filled = [] {
    std::array<typename Products::Value, kMaxChannels> values;
    values.fill(Products::kAround);
    return values;
  }();
  return filled.data();
}

constexpr float kLargest = 65536.0F;  // beyond what any bounds and values added let through

template <typename Products, int positions, int groups>
class Tile {
 public:
  Tile(const Convolution& c, std::int64_t group) : c_(c), group_(group) {}

  // Positions [column, column + count) of a row of outputs.
  void run(std::int64_t image, std::int64_t row, std::int64_t column, int count) {
    Vector sums[positions][groups * kParts];
    for (int part = 0; part < groups * kParts; ++part) {
      const void* first = kZeros;
      if (c_.bias != nullptr) {
        first = c_.bias + group_ * kGroup + part * kLanes;
      }
      const Vector bias = Lanes::load(first);
      for (int p = 0; p < positions; ++p) {
        sums[p][part] = bias;
      }
    }
    accumulate(image, row, column, sums);
    for (int p = 0; p < count; ++p) {
      finish(image, row, column + p, sums[p]);
    }
  }

 private:
  using Lanes = typename Products::Lanes;
  using Vector = typename Lanes::Vector;
  using Value = typename Products::Value;
  using Weight = typename Products::Weight;
  static constexpr int kPerLane = Products::kPerLane;
  static constexpr int kParts = Lanes::kParts, kLanes = kGroup / kParts;
  static constexpr int kOutputs = groups * kGroup;

  void accumulate(std::int64_t image, std::int64_t row, std::int64_t column,
                  Vector (&sums)[positions][groups * kParts]) const {
    std::int64_t all = 0;
    for (int i = 0; i < c_.input_count; ++i) {
      all += c_.kernel * c_.kernel * c_.inputs[i].channels;
    }
    const std::int64_t next_group = all * kGroup;
    const Weight* weights = static_cast<const Weight*>(c_.weights) + group_ * next_group;
    const Value* const outside = around<Products>();
    for (int i = 0; i < c_.input_count; ++i) {
      const std::int64_t channels = c_.inputs[i].channels;
      const Value* const first = static_cast<const Value*>(c_.inputs[i].values);
      for (int above = 0; above < c_.kernel; ++above) {
        const std::int64_t y = row * c_.stride + above - c_.padding;
        const bool inside = y >= 0 && y < c_.height;
        const Value* const line = first + (image * c_.height + y) * c_.width * channels;
        for (int left = 0; left < c_.kernel; ++left, weights += channels * kGroup) {
          const Value* values[positions];
          for (int p = 0; p < positions; ++p) {
            const std::int64_t x = (column + p) * c_.stride + left - c_.padding;
            values[p] = inside && x >= 0 && x < c_.width ? line + x * channels : outside;
          }
          multiply(values, weights, channels, next_group, sums);
        }
      }
    }
  }

  static void multiply(const Value* const (&values)[positions], const Weight* weights,
                       std::int64_t channels, std::int64_t next_group,
                       Vector (&all_sums)[positions][groups * kParts]) {
    // Of its own: what bytes are read from could otherwise be the sums, which would be stored.
    Vector sums[positions][groups * kParts];
    std::memcpy(sums, all_sums, sizeof sums);
    for (std::int64_t channel = 0; channel < channels; channel += kPerLane) {
      typename Products::Weights own[groups * kParts];
      for (int part = 0; part < groups * kParts; ++part) {
        own[part] = Products::weights(weights + (part / kParts) * next_group + channel * kGroup +
                                      (part % kParts) * kLanes * kPerLane);
      }
      for (int p = 0; p < positions; ++p) {
        const typename Products::Values some = Products::values(values[p] + channel);
        for (int part = 0; part < groups * kParts; ++part) {
          sums[p][part] = Products::dot(sums[p][part], some, own[part]);
        }
      }
    }
    std::memcpy(all_sums, sums, sizeof sums);
  }

  void finish(std::int64_t image, std::int64_t row, std::int64_t column,
              const Vector (&sums)[groups * kParts]) const {
    const Output& out = c_.output;
    const bool whole = (group_ + groups) * kGroup <= c_.outputs && out.shuffle == 1;
    if (whole && out.values != nullptr) {
      const std::int64_t at =
          ((image * c_.out_height + row) * c_.out_width + column) * c_.outputs + group_ * kGroup;
      narrow(sums, out.residual != nullptr ? out.residual + at : kZeros, out.values + at);
      return;
    }
    if (out.sums != nullptr) {
      std::int32_t values[kOutputs];
      std::memcpy(values, sums, sizeof values);
      each_run(image, row, column, [&](std::int64_t at, std::int64_t first, std::int64_t count) {
        for (std::int64_t n = 0; n < count; ++n) {
          out.sums[at + n] += values[first + n];
        }
      });
      return;
    }
    std::int16_t added[kOutputs] = {}, results[kOutputs];
    if (out.residual != nullptr) {
      each_run(image, row, column, [&](std::int64_t at, std::int64_t first, std::int64_t count) {
        std::copy_n(out.residual + at, count, added + first);
      });
    }
    narrow(sums, added, results);
    each_run(image, row, column, [&](std::int64_t at, std::int64_t first, std::int64_t count) {
      if (out.pixels != nullptr) {
        std::copy_n(results + first, count, out.pixels + at);
      } else {
        std::copy_n(results + first, count, out.values + at);
      }
    });
  }

  // low <= added + round(sum * factor) <= high, the factor by the sum's sign.
  void narrow(const Vector (&sums)[groups * kParts], const std::int16_t* added,
              std::int16_t* to) const {
    const Output& out = c_.output;
    for (int part = 0; part < groups * kParts; ++part) {
      const int first = part * kLanes;
      const float* positive = out.positive + group_ * kGroup + first;
      const float* negative = out.negative + group_ * kGroup + first;
      Lanes::narrow(sums[part], positive, negative, added + first, out.low, out.high, to + first);
    }
  }

  // Calls put(at, first, count) for each run of outputs that lie side by side in the result.
  template <typename Put>
  void each_run(std::int64_t image, std::int64_t row, std::int64_t column, const Put& put) const {
    const std::int64_t first = group_ * kGroup;
    const std::int64_t count = std::min<std::int64_t>(kOutputs, c_.outputs - first);
    const std::int64_t r = c_.output.shuffle;
    if (r == 1) {
      put(((image * c_.out_height + row) * c_.out_width + column) * c_.outputs + first, 0, count);
      return;
    }
    const std::int64_t depth = c_.outputs / (r * r);
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t cell = (first + done) / depth, inside = (first + done) % depth;
      const std::int64_t some = std::min(count - done, depth - inside);
      const std::int64_t y = row * r + cell / r, x = column * r + cell % r;
      put(((image * c_.out_height * r + y) * c_.out_width * r + x) * depth + inside, done, some);
      done += some;
    }
  }

  const Convolution& c_;
  const std::int64_t group_;
};

template <typename Products, int groups>
void run_row(const Convolution& c, std::int64_t image, std::int64_t row, std::int64_t group) {
  constexpr int positions = Products::positions(groups);
  Tile<Products, positions, groups> tile(c, group);
  for (std::int64_t column = 0; column < c.out_width; column += positions) {
    tile.run(image, row, column,
             static_cast<int>(std::min<std::int64_t>(positions, c.out_width - column)));
  }
}

template <typename Products>
void convolve(const Convolution& c, std::int64_t begin, std::int64_t end) {
  const std::int64_t groups = (c.outputs + kGroup - 1) / kGroup;
  const std::int64_t blocks = (groups + Products::kGroups - 1) / Products::kGroups;
  for (std::int64_t line = begin; line < end; ++line) {
    const std::int64_t image = line / c.out_height, row = line % c.out_height;
    // Blocks of about the same size: 6 groups are 3 and 3, not 4 and 2.
    for (std::int64_t block = 0, group = 0; block < blocks; ++block) {
      const std::int64_t last = groups * (block + 1) / blocks;
      switch (last - group) {
        case 1:
          run_row<Products, 1>(c, image, row, group);
          break;
        case 2:
          if constexpr (Products::kGroups >= 2) run_row<Products, 2>(c, image, row, group);
          break;
        case 3:
          if constexpr (Products::kGroups >= 3) run_row<Products, 3>(c, image, row, group);
          break;
        default:
          if constexpr (Products::kGroups >= 4) run_row<Products, 4>(c, image, row, group);
      }
      group = last;
    }
  }
}

inline void narrow(const std::int16_t* values, std::int64_t count, float factor,
                   std::uint8_t* results) {
  constexpr float most = 127.0F;
  for (std::int64_t n = 0; n < count; ++n) {
    const float product = static_cast<float>(values[n]) * factor;
    const float bounded = std::min(std::max(product, -most), most);
    results[n] = static_cast<std::uint8_t>(static_cast<std::int32_t>(rounded(bounded)) + 128);
  }
}

template <typename Words, typename Bytes>
constexpr Kernels make_kernels(const char* simd_level) {
  return {simd_level, convolve<Words>, convolve<Bytes>, narrow};
}

}  // namespace
}  // namespace hvae::integer
