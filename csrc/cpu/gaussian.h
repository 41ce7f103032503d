// Gaussian posterior: sampling, KL and their gradient, block by block. Mirror of cuda/gaussian.cu.
//
// A block's formula is worked off in several short loops over buffers in cache. In one long loop
// every operation waits for the one before it, and a processor looks only some 200 operations ahead:
// less than two iterations. Short loops let it work on many elements at a time, about twice as fast.
#pragma once

#include "../math/gaussian.h"
#include "block.h"

namespace hvae::cpu {
namespace {

template <typename Real>
struct GaussianBlock {  // pointers to a block's inputs in cache; mu_p is nullptr for N(0, I)
  const Real *mu_q, *raw_q, *mu_p, *raw_p;
};

template <typename Real>
struct GatherBuffers {
  Real location[kBlockElements], scale[kBlockElements];
  Real mu_p[kBlockElements], raw_p[kBlockElements];
};

template <typename T, typename Real>
inline GaussianBlock<Real> gather_inputs(const Inputs& in, const Extent& extent, const Block& block,
                                         GatherBuffers<Real>& buffers) {
  const bool prior = in.mu_p.data != nullptr;
  return {gather<T>(in.location, extent, block, buffers.location),
          gather<T>(in.scale, extent, block, buffers.scale),
          prior ? gather<T>(in.mu_p, extent, block, buffers.mu_p) : nullptr,
          prior ? gather<T>(in.raw_p, extent, block, buffers.raw_p) : nullptr};
}

template <typename Real>
struct Sigmas {
  Real value[kBlockElements], slope[kBlockElements];
};

template <typename Real>
inline void sigmas_of(const Real* raw, std::int64_t count, Sigmas<Real>& sigma) {
  HVAE_INDEPENDENT
  for (std::int64_t i = 0; i < count; ++i) {
    sigma.slope[i] = decay_of(raw[i]);
  }
  HVAE_INDEPENDENT
  for (std::int64_t i = 0; i < count; ++i) {
    const Sigma<Real> made = sigma_with_slope(raw[i], sigma.slope[i]);
    sigma.value[i] = made.value;
    sigma.slope[i] = made.slope;
  }
}

// `decay` is room to work in.
template <typename Real>
inline void sigmas_of(const Real* raw, std::int64_t count, Real* __restrict sigma,
                      Real* __restrict decay) {
  HVAE_INDEPENDENT
  for (std::int64_t i = 0; i < count; ++i) {
    decay[i] = decay_of(raw[i]);
  }
  HVAE_INDEPENDENT
  for (std::int64_t i = 0; i < count; ++i) {
    sigma[i] = sigma_with_slope(raw[i], decay[i]).value;
  }
}

template <typename Real>
inline void kl_terms(const GaussianBlock<Real>& in, std::int64_t count, Real* __restrict sigma_q,
                     Real* __restrict terms) {
  sigmas_of(in.raw_q, count, sigma_q, terms);
  if (in.mu_p == nullptr) {
    HVAE_INDEPENDENT
    for (std::int64_t i = 0; i < count; ++i) {
      terms[i] = kl_of(sigma_q[i], in.mu_q[i]);
    }
    return;
  }
  Real sigma_p[kBlockElements];
  sigmas_of(in.raw_p, count, sigma_p, terms);
  HVAE_INDEPENDENT
  for (std::int64_t i = 0; i < count; ++i) {
    const Real inverse = Real(1) / sigma_p[i];
    terms[i] = kl_of(sigma_q[i] * inverse, (in.mu_q[i] - in.mu_p[i]) * inverse);
  }
}

template <typename T>
void gaussian_forward(const Extent& extent, const Inputs& in, const Seed& seed,
                      const ForwardOutputs& out, std::int64_t begin, std::int64_t end) {
  using Real = typename Compute<T>::type;
  GatherBuffers<Real> buffers;
  Real noise[kBlockElements], sigma_q[kBlockElements], terms[kBlockElements];
  for (std::int64_t index = begin; index < end; ++index) {
    const Block block = block_at(extent, index);
    const GaussianBlock<Real> values = gather_inputs<T>(in, extent, block, buffers);
    kl_terms(values, block.count, sigma_q, terms);
    sum_rows(terms, extent, block, static_cast<Real*>(out.partials));
    if (out.z != nullptr) {
      draw_block<NormalNoise>(seed, extent, block, noise);
      T* __restrict z = static_cast<T*>(out.z) + block.linear;
      HVAE_INDEPENDENT
      for (std::int64_t i = 0; i < block.count; ++i) {
        store(fused(sigma_q[i], noise[i], values.mu_q[i]), z + i);
      }
    }
  }
}

template <typename T, typename Real>
inline void gaussian_gradients(const GaussianBlock<Real>& in, const Real* noise, const Real* d_z,
                               const Real* d_kl, std::int64_t linear, std::int64_t count,
                               const BackwardOutputs& out) {
  T* __restrict d_mu_q = static_cast<T*>(out.location) + linear;
  T* __restrict d_raw_q = static_cast<T*>(out.scale) + linear;
  Sigmas<Real> q;
  sigmas_of(in.raw_q, count, q);
  if (in.mu_p == nullptr) {
    HVAE_INDEPENDENT
    for (std::int64_t i = 0; i < count; ++i) {
      const Sigma<Real> sigma{q.value[i], q.slope[i]};
      const auto grad = gaussian_grad(in.mu_q[i], sigma, noise[i], d_z[i], d_kl[i]);
      store(grad.mu_q, d_mu_q + i);
      store(grad.raw_q, d_raw_q + i);
    }
    return;
  }
  T* __restrict d_mu_p = static_cast<T*>(out.mu_p) + linear;
  T* __restrict d_raw_p = static_cast<T*>(out.raw_p) + linear;
  Sigmas<Real> p;
  sigmas_of(in.raw_p, count, p);
  HVAE_INDEPENDENT
  for (std::int64_t i = 0; i < count; ++i) {
    const Sigma<Real> sigma_q{q.value[i], q.slope[i]}, sigma_p{p.value[i], p.slope[i]};
    const auto grad =
        gaussian_grad(in.mu_q[i], sigma_q, in.mu_p[i], sigma_p, noise[i], d_z[i], d_kl[i]);
    store(grad.mu_q, d_mu_q + i);
    store(grad.raw_q, d_raw_q + i);
    store(grad.mu_p, d_mu_p + i);
    store(grad.raw_p, d_raw_p + i);
  }
}

template <typename T>
void gaussian_backward(const Extent& extent, const BackwardInputs& in, const Seed& seed,
                       const BackwardOutputs& out, std::int64_t begin, std::int64_t end) {
  using Real = typename Compute<T>::type;
  GatherBuffers<Real> buffers;
  Real noise[kBlockElements] = {}, d_kl[kBlockElements], d_z_buffer[kBlockElements] = {};
  for (std::int64_t index = begin; index < end; ++index) {
    const Block block = block_at(extent, index);
    const GaussianBlock<Real> values = gather_inputs<T>(in.saved, extent, block, buffers);
    spread(in.d_rate, extent, block, d_kl);
    const Real* d_z = d_z_buffer;
    if (in.d_z.data != nullptr) {
      d_z = gather<T>(in.d_z, extent, block, d_z_buffer);
      draw_block<NormalNoise>(seed, extent, block, noise);
    }
    gaussian_gradients<T>(values, noise, d_z, d_kl, block.linear, block.count, out);
  }
}

}  // namespace
}  // namespace hvae::cpu
