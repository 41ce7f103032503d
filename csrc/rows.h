// How tensors reach the kernels: rows of columns, whatever the strides. No torch here.
//
// A call's elements are rows x cols in logical order; row r is (r / inner, r % inner), so that a
// model dimension and a batch dimension may have unrelated strides ([M, 1, D] against [M, B, D]).
#pragma once

#include <cstdint>

namespace hvae {

enum class DType { kFloat32, kFloat64, kBFloat16, kFloat16 };

struct Operand {            // an input: [rows, cols], strides in elements, 0 where broadcast
  const void* data;         // nullptr: absent
  std::int64_t outer_stride, inner_stride, col_stride;
};

struct Extent {
  std::int64_t rows, cols;
  std::int64_t inner;       // rows per outer index
  std::int64_t noise_rows;  // row r draws the noise of row r % noise_rows
  std::uint64_t first_index;  // index in the noise of the first element
};

struct Seed {
  std::uint64_t seed, offset;
};

// Gaussian: location = mu_q, scale = raw_q. Uniform: location = mean, scale = step.
struct Inputs {
  Operand location, scale, mu_p, raw_p;
};

// Rates are summed in float64 for float64 inputs, else in float32.
struct ForwardOutputs {
  void* z;         // [rows, cols] of the input type; nullptr: do not sample
  void* partials;  // [rows, pieces] of the summing type, where a device cuts long rows in pieces
  void* rate;      // [rows] of the summing type; the same memory as `partials` if pieces == 1
};

struct BackwardInputs {
  Inputs saved;
  Operand d_z;     // absent: zero
  Operand d_rate;  // [rows] of the summing type, col_stride 0; absent: zero
};

struct BackwardOutputs {  // each [rows, cols] of the input type; the last two nullptr without prior
  void* location;
  void* scale;
  void* mu_p;
  void* raw_p;
};

}  // namespace hvae
