// exp, expm1, log, log1p: float32 by polynomials that vectorise, float64 by the standard library.
//
// The coefficients are least maximum errors, fitted for this project; errors are relative.
#pragma once

#include "target.h"

namespace hvae {

constexpr float kLn2High = 0.693145751953125f;  // 16 significant bits: exact times any exponent
constexpr float kLn2Low = 1.428606765330187e-06f;

// log(1 + f) on [sqrt(1/2) - 1, sqrt(2) - 1] plus `power` log 2; error 4e-9 before rounding.
// Every operation is rounded by itself: the noise depends on its bits.
HVAE_INLINE float log_of_parts(float f, float power) {
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

// log of a positive normal number.
HVAE_INLINE float log_normal(float x) {
  const std::int32_t bits = static_cast<std::int32_t>(to_bits(x));
  const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
  const float mantissa = from_bits(static_cast<std::uint32_t>(bits - exponent * (1 << 23)));
  return log_of_parts(add(mantissa, -1.0f), static_cast<float>(exponent));
}
HVAE_INLINE double log_normal(double x) { return std::log(x); }

// log of anything: -inf at 0, NaN below 0 and for NaN, inf at inf; subnormal numbers are taken as 0.
HVAE_INLINE float log_any(float x) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float smallest = std::numeric_limits<float>::min();
  const float finite = log_normal(x);
  const float low = x >= 0.0f ? -inf : std::numeric_limits<float>::quiet_NaN();
  const float value = x >= smallest ? finite : low;
  return x == inf ? inf : value;
}
HVAE_INLINE double log_any(double x) { return std::log(x); }

// log(1 + y) for -0.64 <= y <= 1.
HVAE_INLINE float log1p_near(float y) {
  const bool above = y > 0.41421354f;
  const bool below = y < -0.29289323f;
  const float f = above ? 0.5f * y - 0.5f : (below ? 2.0f * y + 1.0f : y);
  return log_of_parts(f, above ? 1.0f : (below ? -1.0f : 0.0f));
}
HVAE_INLINE double log1p_near(double y) { return std::log1p(y); }

struct ExpParts {
  float scale;      // 2^n
  float remainder;  // expm1(r), x = n log 2 + r
};

// Below -87 the result is held at exp(-87) = 1.6e-38, the last normal power of two.
HVAE_INLINE ExpParts exp_parts(float x) {
  const float low = x < -87.0f ? -87.0f : x;
  const float bounded = low > 88.0f ? 88.0f : low;
  constexpr float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = add(bounded * 1.44269504f, shifter);
  const float n = add(shifted, -shifter);
  const float r = (bounded - n * kLn2High) - n * kLn2Low;
  float q = 0.00019917851f;
  q = q * r + 0.0013946091f;
  q = q * r + 0.008333266f;
  q = q * r + 0.04166627f;
  q = q * r + 0.16666667f;
  q = q * r + 0.5f;
  const std::uint32_t exponent = to_bits(shifted) + 127u;  // the low bits of `shifted` hold n
  return {from_bits(exponent << 23), r + r * r * q};
}

// exp(x) for x <= 88.
HVAE_INLINE float exp_bounded(float x) {
  const ExpParts parts = exp_parts(x);
  return parts.scale + parts.scale * parts.remainder;
}
HVAE_INLINE double exp_bounded(double x) { return std::exp(x); }

// exp(x) - 1 for x <= 88, without cancellation near 0.
HVAE_INLINE float expm1_bounded(float x) {
  const ExpParts parts = exp_parts(x);
  return (parts.scale - 1.0f) + parts.scale * parts.remainder;
}
HVAE_INLINE double expm1_bounded(double x) { return std::expm1(x); }

}  // namespace hvae
