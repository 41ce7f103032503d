// Uniform posterior, the work of one thread. Mirror of cpu/uniform.h.
#pragma once

#include "../math/bin.h"
#include "unit.h"

namespace hvae::cuda {

template <typename T, bool kAligned>
struct UniformForward {
  using Real = typename Compute<T>::type;

  // Thread `lane` of the item's group; returns its part of the row's nats.
  static HVAE_INLINE Real run(const Geometry& geometry, const Inputs& in, const Seed& seed,
                              const ForwardOutputs& out, const Item& item, int lane) {
    const RowStarts starts = row_starts(in, geometry.extent, item.row);
    const Units units = units_of(item, kUnit<T>);
    const bool prior = in.mu_p.data != nullptr;
    Real nats = Real(0);
    for (int index = lane; index < units.count; index += geometry.group) {
      const std::uint64_t unit_index = units.first + index;
      const std::int64_t column = column_of(item, unit_index, kUnit<T>);
      const auto load = [&](const Operand& operand, std::int64_t start, Real filler) {
        return load_unit<T, kAligned>(operand, start, item, column, filler);
      };
      Unit<T> z = load(in.location, starts.location, Real(0));
      const Unit<T> step = load(in.scale, starts.scale, Real(1));
      Unit<T> mu_p{}, raw_p{};
      if (prior) {
        mu_p = load(in.mu_p, starts.mu_p, Real(0));
        raw_p = load(in.raw_p, starts.raw_p, Real(0));
      }
      const Unit<T> noise = uniform_unit<T>(seed, unit_index);
      HVAE_UNROLL
      for (int j = 0; j < kUnit<T>; ++j) {
        z.values[j] = fused(step.values[j], noise.values[j], z.values[j]);
        const Real inverse = prior ? Real(1) / sigma_of(raw_p.values[j]) : Real(1);
        const Real term = bin_nats((z.values[j] - mu_p.values[j]) * inverse,
                                   Real(0.5) * step.values[j] * inverse);
        nats += kAligned || inside(item, column, j) ? term : Real(0);
      }
      T* row = static_cast<T*>(out.z) + item.row * geometry.extent.cols;
      store_unit<T, kAligned>(z, row, item, column);
    }
    return nats;
  }
};

template <typename T, bool kAligned>
struct UniformBackward {
  using Real = typename Compute<T>::type;

  static HVAE_INLINE void run(const Geometry& geometry, const BackwardInputs& in, const Seed& seed,
                              const BackwardOutputs& out, const Item& item, int lane) {
    const Extent& extent = geometry.extent;
    const RowStarts starts = row_starts(in.saved, extent, item.row);
    const std::int64_t d_z_start = row_offset(in.d_z, extent, item.row);
    const Units units = units_of(item, kUnit<T>);
    const bool prior = in.saved.mu_p.data != nullptr;
    const Real d_nats = in.d_rate.data == nullptr
                            ? Real(0)
                            : static_cast<const Real*>(in.d_rate.data)[item.row];
    for (int index = lane; index < units.count; index += geometry.group) {
      const std::uint64_t unit_index = units.first + index;
      const std::int64_t column = column_of(item, unit_index, kUnit<T>);
      const auto load = [&](const Operand& operand, std::int64_t start, Real filler) {
        return load_unit<T, kAligned>(operand, start, item, column, filler);
      };
      const auto save = [&](const Unit<T>& unit, void* target) {
        T* row = static_cast<T*>(target) + item.row * extent.cols;
        store_unit<T, kAligned>(unit, row, item, column);
      };
      Unit<T> mean = load(in.saved.location, starts.location, Real(0));
      Unit<T> step = load(in.saved.scale, starts.scale, Real(1));
      Unit<T> mu_p{}, raw_p{}, d_z{};
      if (prior) {
        mu_p = load(in.saved.mu_p, starts.mu_p, Real(0));
        raw_p = load(in.saved.raw_p, starts.raw_p, Real(0));
      }
      if (in.d_z.data != nullptr) {
        d_z = load(in.d_z, d_z_start, Real(0));
      }
      const Unit<T> noise = uniform_unit<T>(seed, unit_index);
      HVAE_UNROLL
      for (int j = 0; j < kUnit<T>; ++j) {
        const Sigma<Real> sigma =
            prior ? sigma_with_slope(raw_p.values[j]) : Sigma<Real>{Real(1), Real(0)};
        const Real z = fused(step.values[j], noise.values[j], mean.values[j]);
        const auto grad = uniform_grad(z, step.values[j], mu_p.values[j], sigma.value,
                                       noise.values[j], d_z.values[j], d_nats);
        mean.values[j] = grad.mean;
        step.values[j] = grad.step;
        mu_p.values[j] = grad.mu_p;
        raw_p.values[j] = grad.sigma_p * sigma.slope;
      }
      save(mean, out.location);
      save(step, out.scale);
      if (prior) {
        save(mu_p, out.mu_p);
        save(raw_p, out.raw_p);
      }
    }
  }
};

}  // namespace hvae::cuda
