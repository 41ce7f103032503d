// Uniform posterior: sampling, information of its bin and their gradient. Mirror of cuda/uniform.cu.
#pragma once

#include "../math/bin.h"
#include "gaussian.h"

namespace hvae::cpu {
namespace {

template <typename Real>
struct UniformBlock {  // as GaussianBlock: the posterior's location is its mean, its scale its step
  const Real *mean, *step, *mu_p, *raw_p;
};

template <typename T, typename Real>
inline void nats_terms(const UniformBlock<Real>& in, const Real* noise, std::int64_t count,
                       T* __restrict z, Real* __restrict terms) {
  if (in.mu_p == nullptr) {
    HVAE_INDEPENDENT
    for (std::int64_t i = 0; i < count; ++i) {
      const Real sample = fused(in.step[i], noise[i], in.mean[i]);
      store(sample, z + i);
      terms[i] = bin_nats(sample, Real(0.5) * in.step[i]);
    }
  } else {
    Real sigma[kBlockElements];
    sigmas_of(in.raw_p, count, sigma, terms);
    HVAE_INDEPENDENT
    for (std::int64_t i = 0; i < count; ++i) {
      const Real sample = fused(in.step[i], noise[i], in.mean[i]);
      const Real inverse = Real(1) / sigma[i];
      store(sample, z + i);
      terms[i] = bin_nats((sample - in.mu_p[i]) * inverse, Real(0.5) * in.step[i] * inverse);
    }
  }
}

template <typename T>
void uniform_forward(const Extent& extent, const Inputs& in, const Seed& seed,
                     const ForwardOutputs& out, std::int64_t begin, std::int64_t end) {
  using Real = typename Compute<T>::type;
  GatherBuffers<Real> buffers;
  Real noise[kBlockElements], terms[kBlockElements];
  for (std::int64_t index = begin; index < end; ++index) {
    const Block block = block_at(extent, index);
    const auto values = gather_inputs<T>(in, extent, block, buffers);
    draw_block<UniformNoise>(seed, extent, block, noise);
    nats_terms(UniformBlock<Real>{values.mu_q, values.raw_q, values.mu_p, values.raw_p}, noise,
               block.count, static_cast<T*>(out.z) + block.linear, terms);
    sum_rows(terms, extent, block, static_cast<Real*>(out.partials));
  }
}

template <typename T, typename Real>
inline void uniform_gradients(const UniformBlock<Real>& in, const Real* noise, const Real* d_z,
                              const Real* d_nats, std::int64_t linear, std::int64_t count,
                              const BackwardOutputs& out) {
  T* __restrict d_mean = static_cast<T*>(out.location) + linear;
  T* __restrict d_step = static_cast<T*>(out.scale) + linear;
  if (in.mu_p == nullptr) {
    HVAE_INDEPENDENT
    for (std::int64_t i = 0; i < count; ++i) {
      const Real sample = fused(in.step[i], noise[i], in.mean[i]);
      const auto grad =
          uniform_grad(sample, in.step[i], Real(0), Real(1), noise[i], d_z[i], d_nats[i]);
      store(grad.mean, d_mean + i);
      store(grad.step, d_step + i);
    }
  } else {
    T* __restrict d_mu_p = static_cast<T*>(out.mu_p) + linear;
    T* __restrict d_raw_p = static_cast<T*>(out.raw_p) + linear;
    Sigmas<Real> sigma;
    sigmas_of(in.raw_p, count, sigma);
    HVAE_INDEPENDENT
    for (std::int64_t i = 0; i < count; ++i) {
      const Real sample = fused(in.step[i], noise[i], in.mean[i]);
      const auto grad = uniform_grad(sample, in.step[i], in.mu_p[i], sigma.value[i], noise[i],
                                     d_z[i], d_nats[i]);
      store(grad.mean, d_mean + i);
      store(grad.step, d_step + i);
      store(grad.mu_p, d_mu_p + i);
      store(grad.sigma_p * sigma.slope[i], d_raw_p + i);
    }
  }
}

template <typename T>
void uniform_backward(const Extent& extent, const BackwardInputs& in, const Seed& seed,
                      const BackwardOutputs& out, std::int64_t begin, std::int64_t end) {
  using Real = typename Compute<T>::type;
  GatherBuffers<Real> buffers;
  Real noise[kBlockElements], d_nats[kBlockElements], d_z_buffer[kBlockElements] = {};
  for (std::int64_t index = begin; index < end; ++index) {
    const Block block = block_at(extent, index);
    const auto values = gather_inputs<T>(in.saved, extent, block, buffers);
    spread(in.d_rate, extent, block, d_nats);
    draw_block<UniformNoise>(seed, extent, block, noise);
    const Real* d_z = in.d_z.data != nullptr ? gather<T>(in.d_z, extent, block, d_z_buffer)
                                             : d_z_buffer;
    uniform_gradients<T>(
        UniformBlock<Real>{values.mu_q, values.raw_q, values.mu_p, values.raw_p}, noise, d_z,
        d_nats, block.linear, block.count, out);
  }
}

}  // namespace
}  // namespace hvae::cpu
