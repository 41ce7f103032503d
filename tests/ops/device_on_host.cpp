// Runs the work of CUDA's threads on the host, thread by thread, with CUDA's order of summation.
// Compiled and called by test_device_on_host.py.
#include "../../csrc/cuda/gaussian.h"
#include "../../csrc/cuda/reduce.h"
#include "../../csrc/cuda/uniform.h"

namespace hvae::cuda {

// The kernel's grid: every group of every block, its lanes, then the tree over the lanes.
template <typename Work, typename Real>
void run_forward(const Geometry& geometry, const Inputs& in, const Seed& seed,
                 const ForwardOutputs& out) {
  for (std::int64_t index = 0; index < geometry.items; ++index) {
    Real lanes[kThreads];
    for (int lane = 0; lane < geometry.group; ++lane) {
      lanes[lane] = Work::run(geometry, in, seed, out, item_at(geometry, index), lane);
    }
    static_cast<Real*>(out.partials)[index] = tree_sum(lanes, geometry.group);
  }
}

template <typename Real>
void run_combine(const Geometry& geometry, const ForwardOutputs& out) {
  for (std::int64_t row = 0; row < geometry.extent.rows; ++row) {
    double lanes[kThreads];
    for (int lane = 0; lane < kThreads; ++lane) {
      const Real* partials = static_cast<const Real*>(out.partials) + row * geometry.pieces;
      lanes[lane] = sum_pieces(partials, geometry.pieces, lane);
    }
    static_cast<Real*>(out.rate)[row] = static_cast<Real>(tree_sum(lanes, kThreads));
  }
}

template <template <typename, bool> class Work, typename T>
bool forward(const Extent& extent, const Inputs& in, const Seed& seed, const ForwardOutputs& out) {
  using Real = typename Compute<T>::type;
  const Geometry geometry = make_geometry(extent, in, {nullptr, 0, 0, 0}, kUnit<T>);
  if (geometry.aligned) {
    run_forward<Work<T, true>, Real>(geometry, in, seed, out);
  } else {
    run_forward<Work<T, false>, Real>(geometry, in, seed, out);
  }
  run_combine<Real>(geometry, out);
  return geometry.aligned;
}

template <typename Work>
void run_backward(const Geometry& geometry, const BackwardInputs& in, const Seed& seed,
                  const BackwardOutputs& out) {
  for (std::int64_t index = 0; index < geometry.items; ++index) {
    for (int lane = 0; lane < geometry.group; ++lane) {
      Work::run(geometry, in, seed, out, item_at(geometry, index), lane);
    }
  }
}

template <template <typename, bool> class Work, typename T>
bool backward(const Extent& extent, const BackwardInputs& in, const Seed& seed,
              const BackwardOutputs& out) {
  const Geometry geometry = make_geometry(extent, in.saved, in.d_z, kUnit<T>);
  if (geometry.aligned) {
    run_backward<Work<T, true>>(geometry, in, seed, out);
  } else {
    run_backward<Work<T, false>>(geometry, in, seed, out);
  }
  return geometry.aligned;
}

template <template <typename, bool> class Work, typename... Arguments>
bool forward_by_type(int dtype, const Arguments&... arguments) {
  switch (static_cast<DType>(dtype)) {
    case DType::kFloat32:
      return forward<Work, float>(arguments...);
    case DType::kFloat64:
      return forward<Work, double>(arguments...);
    case DType::kBFloat16:
      return forward<Work, BFloat16>(arguments...);
    default:
      return forward<Work, Float16>(arguments...);
  }
}

template <template <typename, bool> class Work, typename... Arguments>
bool backward_by_type(int dtype, const Arguments&... arguments) {
  switch (static_cast<DType>(dtype)) {
    case DType::kFloat32:
      return backward<Work, float>(arguments...);
    case DType::kFloat64:
      return backward<Work, double>(arguments...);
    case DType::kBFloat16:
      return backward<Work, BFloat16>(arguments...);
    default:
      return backward<Work, Float16>(arguments...);
  }
}

}  // namespace hvae::cuda

extern "C" {

std::int64_t pieces(const hvae::Extent* extent) { return hvae::cuda::piece_count(*extent); }

// Each returns whether the aligned form of the kernel was chosen.
bool forward(bool gaussian, int dtype, const hvae::Extent* extent, const hvae::Inputs* in,
             const hvae::Seed* seed, const hvae::ForwardOutputs* out) {
  using namespace hvae::cuda;
  return gaussian ? forward_by_type<GaussianForward>(dtype, *extent, *in, *seed, *out)
                  : forward_by_type<UniformForward>(dtype, *extent, *in, *seed, *out);
}

bool backward(bool gaussian, int dtype, const hvae::Extent* extent, const hvae::BackwardInputs* in,
              const hvae::Seed* seed, const hvae::BackwardOutputs* out) {
  using namespace hvae::cuda;
  return gaussian ? backward_by_type<GaussianBackward>(dtype, *extent, *in, *seed, *out)
                  : backward_by_type<UniformBackward>(dtype, *extent, *in, *seed, *out);
}

// Where item `index` lies: row, first and last column, noise index of column 0, offset of its row.
void locate(const hvae::Extent* extent, const hvae::Operand* operand, std::int64_t index,
            std::int64_t* found) {
  using namespace hvae::cuda;
  const std::int64_t per_row = piece_count(*extent);
  const Geometry geometry{*extent, per_row, extent->rows * per_row, 32, false};
  const Item item = item_at(geometry, index);
  found[0] = item.row;
  found[1] = item.begin;
  found[2] = item.end;
  found[3] = static_cast<std::int64_t>(item.noise_index);
  found[4] = row_offset(*operand, *extent, item.row);
}
}
