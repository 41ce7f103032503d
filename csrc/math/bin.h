// Information content, in nats, of a bin of N(0, 1), and its gradient.
//
// The bin is [c - h, c + h]; by symmetry c >= 0. Three forms, each where nothing cancels; phi is the
// density, M(x) = Q(x) / phi(x) Mills' ratio, e = exp(-2 c h) = phi(c + h) / phi(c - h):
//   narrow (h <= 1/2, c h <= 1/2)  mass = phi(c) 2 h sum_k h^2k He_2k(c) / (2k + 1)!
//   wide (else, c < h)             mass = 1 - phi(h - c) (M(h - c) + e M(h + c))
//   tail (else)                    mass = phi(c - h) (M(c - h) - e M(c + h))
// All three are computed and one is selected, so that the code has no branch.
#pragma once

#include "gaussian.h"

namespace hvae {

constexpr double kLogSqrt2Pi = 0.91893853320467274178;
constexpr double kLogSqrt2OverPi = -0.22579135264472743236;
constexpr double kInverseSqrt2Pi = 0.39894228040143267794;

// Mills' ratio for x >= 0: a polynomial in y = (x - 3) / (x + 3), over x + 1; error 1.5e-8.
HVAE_INLINE float mills_ratio(float x) {
  const float bounded = x > 1e18f ? 1e18f : x;
  const float inverse = 1.0f / ((bounded + 3.0f) * (bounded + 1.0f));
  const float y = (bounded - 3.0f) * (bounded + 1.0f) * inverse;
  const float yy = y * y, yyyy = yy * yy;
  const float high = fused(yy, 0.00014975753f, fused(y, 8.951357e-05f, -0.0011884011f));
  const float middle = cubic(y, yy, -0.0009155801f, 0.0074868244f, 0.002917639f, -0.05696188f);
  const float low = cubic(y, yy, 0.11320801f, -0.04119043f, -0.24195665f, 1.2183613f);
  const float p = fused(yyyy, fused(yyyy, high, middle), low);
  return p * ((bounded + 3.0f) * inverse);
}

HVAE_INLINE double mills_ratio(double x) {
  if (x < 4.0) {
    return 1.25331413731550025121 * std::erfc(x * 0.70710678118654752440) * std::exp(0.5 * x * x);
  }
  double fraction = x;  // 1 / (x + 1 / (x + 2 / (x + 3 / ...)))
  for (int k = 60; k > 0; --k) {
    fraction = x + k / fraction;
  }
  return 1.0 / fraction;
}

// sum_k h^2k He_2k(c) / (2k + 1)!, for h <= 1/2 and c h <= 1/2.
template <typename Real>
HVAE_INLINE Real bin_series(Real ch, Real hh) {
  constexpr int terms = sizeof(Real) == 4 ? 10 : 24;
  Real previous = Real(1), term = ch, sum = Real(0);  // h^n He_n(c) / n!
  HVAE_UNROLL
  for (int n = 2; n <= terms; ++n) {
    const Real next = fused(ch, term, -hh * previous) * (Real(1) / Real(n));
    previous = term;
    term = next;
    sum = n % 2 == 0 ? fused(term, Real(1) / Real(n + 1), sum) : sum;
  }
  return Real(1) + sum;
}

template <typename Real>
struct Bin {
  bool narrow, wide;     // wide counts only where narrow does not hold
  Real distance;         // of 0 from the nearer edge, |c - h|
  Real decay, decrease;  // e and e - 1
  Real lift;             // narrow: phi(c - h) / phi(c); else phi(c - h) sqrt(2 pi)
  Real outside;          // wide: 1 - mass
  Real factor;           // narrow: mass / (2 phi(c)); wide: mass; tail: mass / phi(c - h)
};

template <typename Real>
HVAE_INLINE Bin<Real> bin_of(Real c, Real h) {
  Bin<Real> bin;
  const Real ch = c * h;
  bin.narrow = (h > ch ? h : ch) <= Real(0.5);
  bin.wide = c < h;
  bin.distance = std::fabs(c - h);
  const auto [scale, remainder] = exp_parts(Real(-2) * ch);
  bin.decay = fused(scale, remainder, scale);
  bin.decrease = fused(scale, remainder, scale - Real(1));
  const Real half = Real(0.5);
  bin.lift = exp_bounded(bin.narrow ? fused(-half * h, h, ch) : -half * bin.distance * bin.distance);
  const Real near = mills_ratio(bin.distance);
  const Real far = bin.decay * mills_ratio(c + h);
  bin.outside = Real(kInverseSqrt2Pi) * bin.lift * (near + far);
  const Real beyond = bin.wide ? Real(1) - bin.outside : near - far;
  bin.factor = bin.narrow ? h * bin_series(ch, h * h) : beyond;
  return bin;
}

// log(factor), or log(1 - outside) where that is more accurate.
HVAE_INLINE float log_factor(const Bin<float>& bin) {
  const LogParts parts = log_parts(bin.factor);
  const float small_outside = bin.wide ? bin.outside : 1.0f;
  const bool near_one = (bin.narrow ? 1.0f : small_outside) < 0.29f;
  const float value = log_of({near_one ? -bin.outside : parts.f, near_one ? 0.0f : parts.power});
  // A negative factor comes of a negative width; its bin has no information content.
  const float low = bin.factor == 0.0f ? -kInfinity : kNaN;
  return bin.factor > 0.0f ? value : low;
}
HVAE_INLINE double log_factor(const Bin<double>& bin) {
  return !bin.narrow && bin.wide ? std::log1p(-bin.outside) : std::log(bin.factor);
}

// -log of the bin's mass.
template <typename Real>
HVAE_INLINE Real bin_nats(Real centre, Real h) {
  const Real c = std::fabs(centre);
  const Bin<Real> bin = bin_of(c, h);
  const Real half = Real(0.5);
  const Real narrow = fused(half * c, c, Real(-kLogSqrt2OverPi));
  const Real tail = fused(half * bin.distance, bin.distance, Real(kLogSqrt2Pi));
  const Real energy = bin.narrow ? narrow : (bin.wide ? Real(0) : tail);
  return energy - log_factor(bin);
}

template <typename Real>
struct BinGrad {
  Real centre, half_width;
};

// Gradient of `bin_nats`, from phi(edge) / mass at the two edges.
template <typename Real>
HVAE_INLINE BinGrad<Real> bin_grad(Real centre, Real h) {
  const Bin<Real> bin = bin_of(Real(std::fabs(centre)), h);
  const Real wide = Real(kInverseSqrt2Pi) * bin.lift;
  const Real edge = bin.narrow ? Real(0.5) * bin.lift : (bin.wide ? wide : Real(1));
  const Real near = edge / bin.factor;
  const Real slope = -near * bin.decrease;
  return {centre < Real(0) ? -slope : slope, -near * (Real(1) + bin.decay)};
}

template <typename Real>
struct UniformGrad {
  Real mean, step, mu_p, sigma_p;
};

// nats of the bin of z = mean + step u under N(mu_p, sigma_p^2), from d_z and d_nats (of the row).
template <typename Real>
HVAE_INLINE UniformGrad<Real> uniform_grad(Real z, Real step, Real mu_p, Real sigma_p, Real u,
                                           Real d_z, Real d_nats) {
  const Real inverse = Real(1) / sigma_p;
  const Real centre = (z - mu_p) * inverse;
  const Real half_width = Real(0.5) * step * inverse;
  const BinGrad<Real> grad = bin_grad(centre, half_width);
  const Real scaled = d_nats * inverse;
  const Real d_centre = scaled * grad.centre;
  const Real d_mean = d_z + d_centre;
  const Real d_step = fused(d_mean, u, Real(0.5) * scaled * grad.half_width);
  const Real d_sigma = -scaled * fused(grad.centre, centre, grad.half_width * half_width);
  return {d_mean, d_step, -d_centre, d_sigma};
}

}  // namespace hvae
