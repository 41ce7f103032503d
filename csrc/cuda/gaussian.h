// Gaussian posterior, the work of one thread. Mirror of cpu/gaussian.h.
#pragma once

#include "../math/gaussian.h"
#include "unit.h"

namespace hvae::cuda {

template <typename T, bool kAligned>
struct GaussianForward {
  using Real = typename Compute<T>::type;

  // Thread `lane` of the item's group; returns its part of the row's KL.
  static HVAE_INLINE Real run(const Geometry& geometry, const Inputs& in, const Seed& seed,
                              const ForwardOutputs& out, const Item& item, int lane) {
    const RowStarts starts = row_starts(in, geometry.extent, item.row);
    const Units units = units_of(item, kUnit<T>);
    const bool prior = in.mu_p.data != nullptr;
    Real kl = Real(0);
    for (int index = lane; index < units.count; index += geometry.group) {
      const std::uint64_t unit_index = units.first + index;
      const std::int64_t column = column_of(item, unit_index, kUnit<T>);
      const auto load = [&](const Operand& operand, std::int64_t start) {
        return load_unit<T, kAligned>(operand, start, item, column, Real(0));
      };
      Unit<T> z = load(in.location, starts.location);
      Unit<T> sigma = load(in.scale, starts.scale);
      Unit<T> mu_p{}, raw_p{};
      if (prior) {
        mu_p = load(in.mu_p, starts.mu_p);
        raw_p = load(in.raw_p, starts.raw_p);
      }
      HVAE_UNROLL
      for (int j = 0; j < kUnit<T>; ++j) {
        sigma.values[j] = sigma_of(sigma.values[j]);
        const Real inverse = prior ? Real(1) / sigma_of(raw_p.values[j]) : Real(1);
        const Real term =
            kl_of(sigma.values[j] * inverse, (z.values[j] - mu_p.values[j]) * inverse);
        kl += kAligned || inside(item, column, j) ? term : Real(0);
      }
      if (out.z != nullptr) {
        const Unit<T> noise = normal_unit<T>(seed, unit_index);
        HVAE_UNROLL
        for (int j = 0; j < kUnit<T>; ++j) {
          z.values[j] = fused(sigma.values[j], noise.values[j], z.values[j]);
        }
        T* row = static_cast<T*>(out.z) + item.row * geometry.extent.cols;
        store_unit<T, kAligned>(z, row, item, column);
      }
    }
    return kl;
  }
};

template <typename T, bool kAligned>
struct GaussianBackward {
  using Real = typename Compute<T>::type;

  static HVAE_INLINE void run(const Geometry& geometry, const BackwardInputs& in, const Seed& seed,
                              const BackwardOutputs& out, const Item& item, int lane) {
    const Extent& extent = geometry.extent;
    const RowStarts starts = row_starts(in.saved, extent, item.row);
    const std::int64_t d_z_start = row_offset(in.d_z, extent, item.row);
    const Units units = units_of(item, kUnit<T>);
    const Real d_kl = in.d_rate.data == nullptr
                          ? Real(0)
                          : static_cast<const Real*>(in.d_rate.data)[item.row];
    for (int index = lane; index < units.count; index += geometry.group) {
      const std::uint64_t unit_index = units.first + index;
      const std::int64_t column = column_of(item, unit_index, kUnit<T>);
      const auto load = [&](const Operand& operand, std::int64_t start) {
        return load_unit<T, kAligned>(operand, start, item, column, Real(0));
      };
      const auto save = [&](const Unit<T>& unit, void* target) {
        T* row = static_cast<T*>(target) + item.row * extent.cols;
        store_unit<T, kAligned>(unit, row, item, column);
      };
      Unit<T> mu_q = load(in.saved.location, starts.location);
      Unit<T> raw_q = load(in.saved.scale, starts.scale);
      Unit<T> d_z{}, noise{};
      if (in.d_z.data != nullptr) {
        d_z = load(in.d_z, d_z_start);
        noise = normal_unit<T>(seed, unit_index);
      }
      if (in.saved.mu_p.data != nullptr) {
        Unit<T> mu_p = load(in.saved.mu_p, starts.mu_p);
        Unit<T> raw_p = load(in.saved.raw_p, starts.raw_p);
        HVAE_UNROLL
        for (int j = 0; j < kUnit<T>; ++j) {
          const Sigma<Real> q = sigma_with_slope(raw_q.values[j]);
          const Sigma<Real> p = sigma_with_slope(raw_p.values[j]);
          const auto grad = gaussian_grad(mu_q.values[j], q, mu_p.values[j], p, noise.values[j],
                                          d_z.values[j], d_kl);
          mu_q.values[j] = grad.mu_q;
          raw_q.values[j] = grad.raw_q;
          mu_p.values[j] = grad.mu_p;
          raw_p.values[j] = grad.raw_p;
        }
        save(mu_p, out.mu_p);
        save(raw_p, out.raw_p);
      } else {
        HVAE_UNROLL
        for (int j = 0; j < kUnit<T>; ++j) {
          const Sigma<Real> q = sigma_with_slope(raw_q.values[j]);
          const auto grad =
              gaussian_grad(mu_q.values[j], q, noise.values[j], d_z.values[j], d_kl);
          mu_q.values[j] = grad.mu_q;
          raw_q.values[j] = grad.raw_q;
        }
      }
      save(mu_q, out.location);
      save(raw_q, out.scale);
    }
  }
};

}  // namespace hvae::cuda
