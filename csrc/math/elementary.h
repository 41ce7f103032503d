// exp, expm1, log, log1p: float32 by polynomials that vectorise, float64 by the standard library.
//
// The coefficients are least maximum errors, fitted for this project; errors are relative and before
// rounding.
#pragma once

#include "target.h"

namespace hvae {

constexpr float kLn2High = 0.693145751953125f;  // 16 significant bits: exact times any exponent
constexpr float kLn2Low = 1.428606765330187e-06f;

// x = (1 + f) 2^power with 1 + f in [sqrt(1/2), sqrt(2)).
struct LogParts {
  float f, power;
};

// Of a positive normal number.
HVAE_INLINE LogParts log_parts(float x) {
  const std::int32_t bits = static_cast<std::int32_t>(to_bits(x));
  const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
  const float mantissa = from_bits(static_cast<std::uint32_t>(bits - exponent * (1 << 23)));
  return {add(mantissa, -1.0f), static_cast<float>(exponent)};
}

// c0 + c1 x + c2 x^2 + c3 x^3, given x^2. Polynomials are evaluated by halves: a chain of fused
// operations one after another would be waited for, longer than a processor can look ahead.
HVAE_INLINE float cubic(float x, float xx, float c3, float c2, float c1, float c0) {
  return fused(xx, fused(x, c3, c2), fused(x, c1, c0));
}

// log((1 + f) 2^power); error 3e-8.
HVAE_INLINE float log_of(LogParts parts) {
  const float f = parts.f, ff = f * f;
  const float high = cubic(f, ff, 0.08980245f, -0.14426348f, 0.1488321f, -0.16551861f);
  const float low = cubic(f, ff, 0.19963533f, -0.2500258f, 0.3333393f, -0.49999982f);
  const float tail = fused(ff, fused(ff * ff, high, low), parts.power * kLn2Low);
  return fused(parts.power, kLn2High, tail + f);
}

// log of a positive normal number for the noise: error 4e-9, every operation rounded by itself.
HVAE_INLINE float log_for_noise(float x) {
  const auto [f, power] = log_parts(x);
  float p = -0.07824258f;
  p = add(mul(p, f), 0.13003944f);
  p = add(mul(p, f), -0.13207956f);
  p = add(mul(p, f), 0.14163585f);
  p = add(mul(p, f), -0.1661128f);
  p = add(mul(p, f), 0.20003012f);
  p = add(mul(p, f), -0.25001514f);
  p = add(mul(p, f), 0.33333308f);
  p = add(mul(p, f), -0.49999988f);
  const float tail = add(mul(mul(f, f), p), mul(power, kLn2Low));
  return add(add(tail, f), mul(power, kLn2High));
}

// log of x >= 0, normal or 0. What comes out for NaN and inf is of no use.
HVAE_INLINE float log_positive(float x) {
  return x > 0.0f ? log_of(log_parts(x)) : -kInfinity;
}
HVAE_INLINE double log_positive(double x) { return std::log(x); }

// log(1 + y) for 0 <= y <= 1, accurate near 0.
HVAE_INLINE float log1p_unit(float y) {
  const bool large = y > 0.41421354f;
  return log_of({large ? fused(0.5f, y, -0.5f) : y, large ? 1.0f : 0.0f});
}
HVAE_INLINE double log1p_unit(double y) { return std::log1p(y); }

// exp(x) = scale (1 + remainder), scale a power of two.
template <typename Real>
struct ExpParts {
  Real scale, remainder;
};

// For x <= 88; below -87 held at exp(-87) = 1.6e-38. Error 3e-9.
HVAE_INLINE ExpParts<float> exp_parts(float x) {
  const float bounded = x < -87.0f ? -87.0f : x;
  constexpr float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = fused(bounded, 1.44269504f, shifter);
  const float n = add(shifted, -shifter);
  const float r = fused(-n, kLn2Low, fused(-n, kLn2High, bounded));
  const float rr = r * r;
  const float low = cubic(r, rr, 0.008368902f, 0.041666206f, 0.16666518f, 0.5f);
  const float q = fused(rr * rr, 0.0013950507f, low);
  const std::uint32_t exponent = to_bits(shifted) + 127u;  // the low bits of `shifted` hold n
  return {from_bits(exponent << 23), fused(rr, q, r)};
}
HVAE_INLINE ExpParts<double> exp_parts(double x) { return {1.0, std::expm1(x)}; }

// exp(x) for x <= 88.
HVAE_INLINE float exp_bounded(float x) {
  const auto [scale, remainder] = exp_parts(x);
  return fused(scale, remainder, scale);
}
HVAE_INLINE double exp_bounded(double x) { return std::exp(x); }

}  // namespace hvae
