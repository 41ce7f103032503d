// Every kernel of csrc over shapes, strides and types, each array exactly as large as a call may
// touch: built with AddressSanitizer and UndefinedBehaviorSanitizer by tests/ops/sanitize.sh.
// Device code runs as test_device_on_host.py runs it.
#include <cstdio>
#include <memory>
#include <vector>

#include "../../csrc/cpu/kernels.h"
#include "device_on_host.cpp"

namespace {

using namespace hvae;

constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16};
enum class Layout {
  kDense, kShifted, kWide, kTransposed, kRowBroadcast, kColumnBroadcast, kOuterInner
};
constexpr Layout kLayouts[] = {
    Layout::kDense,        Layout::kShifted,         Layout::kWide,      Layout::kTransposed,
    Layout::kRowBroadcast, Layout::kColumnBroadcast, Layout::kOuterInner};

std::size_t size_of(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

// An array on the heap of exactly `count` elements, so that one element too far is found.
class Array {
 public:
  Array(DType dtype, std::int64_t count, double value = 0.25)
      : dtype_(dtype), bytes_(new unsigned char[size_of(dtype) * (count > 0 ? count : 1)]) {
    for (std::int64_t i = 0; i < count; ++i) {
      const double x = value + 0.01 * static_cast<double>(i % 7);
      switch (dtype) {
        case DType::kFloat64: at<double>(i) = x; break;
        case DType::kFloat32: at<float>(i) = static_cast<float>(x); break;
        case DType::kBFloat16: store(static_cast<float>(x), &at<BFloat16>(i)); break;
        case DType::kFloat16: store(static_cast<float>(x), &at<Float16>(i)); break;
      }
    }
  }
  unsigned char* data() { return bytes_.get(); }
  unsigned char* data(std::int64_t element) { return bytes_.get() + element * size_of(dtype_); }

 private:
  template <typename T>
  T& at(std::int64_t i) { return reinterpret_cast<T*>(bytes_.get())[i]; }
  DType dtype_;
  std::unique_ptr<unsigned char[]> bytes_;
};

struct Case {
  Extent extent;
  DType dtype;
  bool prior, gradients;
  Layout layout;
};

// The operand of a layout, and the array that holds it.
class Tensor {
 public:
  Tensor(const Case& c, double value) : array_(c.dtype, elements(c), value) {
    const std::int64_t rows = c.extent.rows, cols = c.extent.cols, inner = c.extent.inner;
    switch (c.layout) {
      case Layout::kDense: operand_ = {array_.data(), inner * cols, cols, 1}; break;
      case Layout::kShifted: operand_ = {array_.data(1), inner * cols, cols, 1}; break;
      case Layout::kWide: operand_ = {array_.data(), inner * 2 * cols, 2 * cols, 2}; break;
      case Layout::kTransposed: operand_ = {array_.data(), inner, 1, rows}; break;
      case Layout::kRowBroadcast: operand_ = {array_.data(), 0, 0, 1}; break;
      case Layout::kColumnBroadcast: operand_ = {array_.data(), inner, 1, 0}; break;
      case Layout::kOuterInner: operand_ = {array_.data(), cols, 0, 1}; break;
    }
  }
  const Operand& operand() const { return operand_; }

 private:
  static std::int64_t elements(const Case& c) {
    const std::int64_t rows = c.extent.rows, cols = c.extent.cols;
    const std::int64_t all = rows * cols;
    switch (c.layout) {
      case Layout::kShifted: return all + 1;
      case Layout::kWide: return all > 0 ? 2 * all - 1 : 0;
      case Layout::kRowBroadcast: return cols;
      case Layout::kColumnBroadcast: return rows;
      case Layout::kOuterInner: return rows / (c.extent.inner > 0 ? c.extent.inner : 1) * cols;
      default: return all;
    }
  }
  Array array_;
  Operand operand_{};
};

struct Call {
  explicit Call(const Case& c)
      : location(c, 0.1), scale(c, 0.5), mu_p(c, -0.2), raw_p(c, 0.3), d_z(c, 1.0),
        rate_type(c.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32),
        d_rate(rate_type, c.extent.rows) {
    const Operand absent{nullptr, 0, 0, 0};
    inputs = {location.operand(), scale.operand(), c.prior ? mu_p.operand() : absent,
              c.prior ? raw_p.operand() : absent};
    const Operand rate{d_rate.data(), c.extent.inner, 1, 0};
    backward = {inputs, c.gradients ? d_z.operand() : absent, c.gradients ? rate : absent};
  }
  Tensor location, scale, mu_p, raw_p, d_z;
  DType rate_type;
  Array d_rate;
  Inputs inputs;
  BackwardInputs backward;
};

void run_cpu(const cpu::Kernels& kernels, const Case& c, bool gaussian) {
  const Extent& extent = c.extent;
  Call call(c);
  const std::int64_t all = extent.rows * extent.cols, pieces = cpu::piece_count(extent);
  Array z(c.dtype, all), rate(call.rate_type, extent.rows);
  Array partials(call.rate_type, extent.rows * pieces);
  const bool samples = c.gradients || !gaussian;
  const ForwardOutputs out{samples ? z.data() : nullptr,
                           pieces > 1 ? partials.data() : rate.data(), rate.data()};
  const Seed seed{~0ULL, 77};
  const std::int64_t blocks = extent.cols > 0 ? cpu::block_count(extent) : 0;
  const auto forward = gaussian ? kernels.gaussian_forward : kernels.uniform_forward;
  forward(c.dtype, extent, call.inputs, seed, out, 0, blocks);
  if (pieces > 1) {
    kernels.combine(c.dtype, extent.rows, pieces, out);
  }
  Array grads[] = {{c.dtype, all}, {c.dtype, all}, {c.dtype, all}, {c.dtype, all}};
  const BackwardOutputs back{grads[0].data(), grads[1].data(), c.prior ? grads[2].data() : nullptr,
                             c.prior ? grads[3].data() : nullptr};
  const auto backward = gaussian ? kernels.gaussian_backward : kernels.uniform_backward;
  backward(c.dtype, extent, call.backward, seed, back, 0, blocks / 2);
  backward(c.dtype, extent, call.backward, seed, back, blocks / 2, blocks);
}

void run_device(const Case& c, bool gaussian) {
  const Extent& extent = c.extent;
  Call call(c);
  const std::int64_t all = extent.rows * extent.cols;
  Array z(c.dtype, all), rate(call.rate_type, extent.rows);
  Array partials(call.rate_type, extent.rows * pieces(&extent));
  const bool samples = c.gradients || !gaussian;
  const ForwardOutputs out{samples ? z.data() : nullptr, partials.data(), rate.data()};
  const Seed seed{~0ULL, 77};
  forward(gaussian, static_cast<int>(c.dtype), &extent, &call.inputs, &seed, &out);
  Array grads[] = {{c.dtype, all}, {c.dtype, all}, {c.dtype, all}, {c.dtype, all}};
  const BackwardOutputs back{grads[0].data(), grads[1].data(), c.prior ? grads[2].data() : nullptr,
                             c.prior ? grads[3].data() : nullptr};
  backward(gaussian, static_cast<int>(c.dtype), &extent, &call.backward, &seed, &back);
}

std::vector<Extent> extents() {
  constexpr std::int64_t rows[] = {0, 1, 2, 5, 12};
  constexpr std::int64_t cols[] = {1, 3, 16, 31, 32, 511, 512, 513, 1025};
  std::vector<Extent> made;
  for (const std::int64_t r : rows) {
    for (const std::int64_t c : cols) {
      made.push_back({r, c, r > 0 ? r : 1, r > 0 ? r : 1, 0});
    }
  }
  made.push_back({12, 33, 4, 6, 5});            // outer and inner rows, copies of the noise
  made.push_back({2, 8193, 1, 2, 4ULL << 32});  // pieces of the device, noise beyond 32 bits
  made.push_back({600, 1, 600, 600, 3});
  made.push_back({1, 20000, 1, 1, ~0ULL - 30000});
  return made;
}

}  // namespace

int main() {
  std::vector<const cpu::Kernels*> tables{&cpu::kBaseline};
#if defined(HVAE_X86)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    tables.push_back(&cpu::kAvx2);
  }
  if (&cpu::kernels() == &cpu::kAvx512) {
    tables.push_back(&cpu::kAvx512);
  }
#endif
  long calls = 0;
  for (const Extent& extent : extents()) {
    for (const DType dtype : kTypes) {
      for (const Layout layout : kLayouts) {
        for (int variant = 0; variant < 8; ++variant) {
          const Case c{extent, dtype, (variant & 1) != 0, (variant & 2) != 0, layout};
          const bool gaussian = (variant & 4) != 0;
          for (const cpu::Kernels* table : tables) {
            run_cpu(*table, c, gaussian);
          }
          run_device(c, gaussian);
          calls += static_cast<long>(tables.size()) + 1;
        }
      }
    }
  }
  std::printf("%ld calls of forward and backward kernels, %zu instruction sets and device code\n",
              calls, tables.size());
  return 0;
}
