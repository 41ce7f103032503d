// Information content, in nats, of a bin of N(0, 1), and its gradient.
//
// The bin is [c - h, c + h]; by symmetry c >= 0. Three forms, each where nothing cancels; phi is the
// density, M(x) = Q(x) / phi(x) Mills' ratio, e = exp(-2 c h) = phi(c + h) / phi(c - h):
//   narrow (h <= 1, 2 c h <= 1)  mass = phi(c) 2 h sum_k h^2k He_2k(c) / (2k + 1)!
//   wide (c < h)                 mass = 1 - phi(h - c) (M(h - c) + e M(h + c))
//   tail                         mass = phi(c - h) (M(c - h) - e M(c + h))
#pragma once

#include "elementary.h"

namespace hvae {

constexpr double kLogSqrt2Pi = 0.91893853320467274178;
constexpr double kLogSqrt2OverPi = -0.22579135264472743236;
constexpr double kInverseSqrt2Pi = 0.39894228040143267794;

// Mills' ratio for x >= 0 as (polynomial in (x - 3) / (x + 3)) / (x + 1); error 1.5e-8.
HVAE_INLINE float mills_ratio(float x) {
  const float bounded = x > 1e18f ? 1e18f : x;
  const float y = (bounded - 3.0f) / (bounded + 3.0f);
  float p = 0.00014975753f;
  p = p * y + 8.951357e-05f;
  p = p * y - 0.0011884011f;
  p = p * y - 0.0009155801f;
  p = p * y + 0.0074868244f;
  p = p * y + 0.002917639f;
  p = p * y - 0.05696188f;
  p = p * y + 0.11320801f;
  p = p * y - 0.04119043f;
  p = p * y - 0.24195665f;
  p = p * y + 1.2183613f;
  return p / (bounded + 1.0f);
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

// sum_k h^2k He_2k(c) / (2k + 1)! - 1, for h <= 1 and 2 c h <= 1.
template <typename Real>
HVAE_INLINE Real bin_series(Real ch, Real hh) {
  constexpr int terms = sizeof(Real) == 4 ? 10 : 26;
  Real previous = Real(1), term = ch, excess = Real(0);  // h^n He_n(c) / n!
#pragma GCC unroll 26
  for (int n = 2; n <= terms; ++n) {
    const Real next = (ch * term - hh * previous) * (Real(1) / Real(n));
    previous = term;
    term = next;
    if (n % 2 == 0) {
      excess += term * (Real(1) / Real(n + 1));
    }
  }
  return excess;
}

template <typename Real>
struct Bin {
  bool narrow, wide;
  Real distance;  // of 0 from the nearer edge, |c - h|
  Real decay;     // e
  Real factor;    // narrow: series - 1; wide: the mass outside; tail: mass / phi(c - h)
  Real density;   // wide: phi(h - c); else unused
};

template <typename Real>
HVAE_INLINE Bin<Real> bin_of(Real c, Real h) {
  Bin<Real> bin;
  const Real ch = c * h;
  bin.narrow = h <= Real(1) && Real(2) * ch <= Real(1);
  bin.wide = !bin.narrow && c < h;
  bin.distance = std::fabs(c - h);
  bin.decay = exp_bounded(Real(-2) * ch);
  bin.density = Real(kInverseSqrt2Pi) * exp_bounded(Real(-0.5) * bin.distance * bin.distance);
  const Real near = mills_ratio(bin.distance);
  const Real far = bin.decay * mills_ratio(c + h);
  const Real series = bin_series(ch, h * h);
  const Real outside = bin.density * (near + far);
  bin.factor = bin.narrow ? series : (bin.wide ? outside : near - far);
  return bin;
}

// -log of the bin's mass.
template <typename Real>
HVAE_INLINE Real bin_nats(Real centre, Real h) {
  const Real c = std::fabs(centre);
  const Bin<Real> bin = bin_of(c, h);
  const Real near_one = log1p_near(bin.narrow ? bin.factor : (bin.wide ? -bin.factor : Real(0)));
  const Real scaled = log_any(bin.narrow ? h : bin.factor);
  const Real narrow = Real(kLogSqrt2OverPi) - Real(0.5) * c * c + scaled + near_one;
  const Real tail = scaled - Real(0.5) * bin.distance * bin.distance - Real(kLogSqrt2Pi);
  return -(bin.narrow ? narrow : (bin.wide ? near_one : tail));
}

template <typename Real>
struct BinGrad {
  Real centre, half_width;
};

// Gradient of `bin_nats`: phi(edge) / mass at the edges, signed.
template <typename Real>
HVAE_INLINE BinGrad<Real> bin_grad(Real centre, Real h) {
  const Real c = std::fabs(centre);
  const Bin<Real> bin = bin_of(c, h);
  const Real ch = c * h;
  // phi(c - h) / phi(c) = exp(c h - h^2 / 2); bounded where it is used, h <= 1 and c h <= 1 / 2.
  const Real lift = exp_bounded(bin.narrow ? ch - Real(0.5) * h * h : Real(0));
  const Real narrow = lift / (Real(2) * h * (Real(1) + bin.factor));
  const Real wide = bin.density / (Real(1) - bin.factor);
  const Real near = bin.narrow ? narrow : (bin.wide ? wide : Real(1) / bin.factor);
  const Real slope = -near * expm1_bounded(Real(-2) * ch);
  return {centre < Real(0) ? -slope : slope, -near * (Real(1) + bin.decay)};
}

template <typename Real>
struct UniformGrad {
  Real mean, step, mu_p, raw_p;
};

// nats of the bin of z = mean + step u under N(mu_p, sigma_p^2), from d_z and d_nats (of the row).
template <typename Real>
HVAE_INLINE UniformGrad<Real> uniform_grad(Real z, Real step, Real mu_p, Real sigma_p, Real slope_p,
                                           Real u, Real d_z, Real d_nats) {
  const Real inverse = Real(1) / sigma_p;
  const Real centre = (z - mu_p) * inverse;
  const Real half_width = Real(0.5) * step * inverse;
  const BinGrad<Real> grad = bin_grad(centre, half_width);
  const Real d_centre = d_nats * grad.centre * inverse;
  const Real d_width = d_nats * grad.half_width * Real(0.5) * inverse;
  const Real d_sigma =
      -d_nats * (grad.centre * centre + grad.half_width * half_width) * inverse;
  return {d_z + d_centre, (d_z + d_centre) * u + d_width, -d_centre, d_sigma * slope_p};
}

}  // namespace hvae
