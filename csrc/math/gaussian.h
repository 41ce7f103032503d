// KL divergence of diagonal Gaussians and its gradient, one element at a time, in nats.
#pragma once

#include "elementary.h"

namespace hvae {

// sigma = max(softplus(raw), kSigmaFloor); the same number is SIGMA_FLOOR in ops/reference.py.
constexpr double kSigmaFloor = 1e-6;

template <typename Real>
struct Sigma {
  Real value;
  Real slope;  // d sigma / d raw: the logistic function, 0 at the floor
};

// exp(-|raw|): the first half of the work, apart so that loops over many elements can be too.
template <typename Real>
HVAE_INLINE Real decay_of(Real raw) {
  return exp_bounded(-std::fabs(raw));
}

// From raw and its `decay_of`.
template <typename Real>
HVAE_INLINE Sigma<Real> sigma_with_slope(Real raw, Real decay) {
  const Real value = (raw > Real(0) ? raw : Real(0)) + log1p_unit(decay);
  const Real logistic = (raw >= Real(0) ? Real(1) : decay) / (Real(1) + decay);
  const bool floored = value < Real(kSigmaFloor);
  return {floored ? Real(kSigmaFloor) : value, floored ? Real(0) : logistic};
}

template <typename Real>
HVAE_INLINE Sigma<Real> sigma_with_slope(Real raw) {
  return sigma_with_slope(raw, decay_of(raw));
}

template <typename Real>
HVAE_INLINE Real sigma_of(Real raw) {
  return sigma_with_slope(raw).value;
}

// KL = (r^2 + t^2 - 1) / 2 - log r with r = sigma_q / sigma_p, t = (mu_q - mu_p) / sigma_p.
template <typename Real>
HVAE_INLINE Real kl_of(Real ratio, Real distance) {
  const Real square = fused(distance, distance, (ratio - Real(1)) * (ratio + Real(1)));
  return fused(Real(0.5), square, -log_positive(ratio));
}

template <typename Real>
struct GaussianGrad {
  Real mu_q, raw_q, mu_p, raw_p;
};

// From d_z (per element), d_kl (of the row) and the noise eps that made z = mu_q + sigma_q eps.
template <typename Real>
HVAE_INLINE GaussianGrad<Real> gaussian_grad(Real mu_q, Sigma<Real> q, Real mu_p, Sigma<Real> p,
                                             Real eps, Real d_z, Real d_kl) {
  const Real inverse = Real(1) / p.value;
  const Real ratio = q.value * inverse;
  const Real distance = (mu_q - mu_p) * inverse;
  const Real d_mu = d_kl * distance * inverse;
  const Real slope_q = fused(ratio, inverse, -(Real(1) / q.value));
  const Real d_sigma_q = fused(d_kl, slope_q, d_z * eps);
  const Real excess = fused(distance, distance, fused(ratio, ratio, Real(-1)));
  const Real d_sigma_p = -d_kl * inverse * excess;
  return {d_z + d_mu, d_sigma_q * q.slope, -d_mu, d_sigma_p * p.slope};
}

// The same against N(0, I); the prior's two gradients do not exist.
template <typename Real>
HVAE_INLINE GaussianGrad<Real> gaussian_grad(Real mu_q, Sigma<Real> q, Real eps, Real d_z,
                                             Real d_kl) {
  const Real d_sigma_q = fused(d_kl, q.value - Real(1) / q.value, d_z * eps);
  return {fused(d_kl, mu_q, d_z), d_sigma_q * q.slope, Real(0), Real(0)};
}

}  // namespace hvae
