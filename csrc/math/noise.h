// Counter-based noise: Philox-4x32-10 and its exact maps to U[-1/2, 1/2) and N(0, 1).
//
// Element i of a call takes word i % 4 of Philox(counter = (i / 4, offset), key = seed); the twin in
// Python is hvae_codec/ops/reference.py. J. Salmon et al., SC 2011.
#pragma once

#include "elementary.h"

namespace hvae {

struct NoiseKey {
  std::uint64_t seed;
  std::uint64_t offset;
};

struct Words {
  std::uint32_t w0, w1, w2, w3;
};

HVAE_INLINE std::uint32_t high_word(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(a) * b) >> 32);
}

// Words of block c1 * 2^32 + c0.
HVAE_INLINE Words philox(std::uint32_t c0, std::uint32_t c1, NoiseKey key) {
  constexpr std::uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u;
  std::uint32_t c2 = static_cast<std::uint32_t>(key.offset);
  std::uint32_t c3 = static_cast<std::uint32_t>(key.offset >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(key.seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(key.seed >> 32);
  HVAE_UNROLL
  for (int round = 0; round < 10; ++round) {
    const std::uint32_t high0 = high_word(m0, c0), low0 = m0 * c0;
    const std::uint32_t high1 = high_word(m1, c2), low1 = m1 * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

HVAE_INLINE float uniform_of(std::uint32_t word) {
  return add(mul(static_cast<float>(static_cast<std::int32_t>(word >> 8)), 0x1p-24f), -0.5f);
}

struct NormalPair {
  float first, second;
};

// Box-Muller: radius from word `a`; from word `b` 29 bits of angle within an octant, three bits to
// choose the octant.
HVAE_INLINE NormalPair normals_of(std::uint32_t a, std::uint32_t b) {
  const float u =
      add(mul(static_cast<float>(static_cast<std::int32_t>(a >> 1)), 0x1p-31f), 0x1p-32f);
  const float radius = std::sqrt(mul(log_for_noise(u), -2.0f));

  const std::int32_t fraction = static_cast<std::int32_t>((b & 0x1FFFFFFFu) >> 5);
  const float angle = add(mul(static_cast<float>(fraction), 0x1p-24f), 0x1p-25f);
  const float square = mul(angle, angle);
  float sine = -3.595451e-05f;
  sine = add(mul(sine, square), 0.002490007f);
  sine = add(mul(sine, square), -0.080745436f);
  sine = add(mul(sine, square), 0.7853982f);
  sine = mul(angle, sine);
  float cosine = 3.5298112e-06f;
  cosine = add(mul(cosine, square), -0.00032593863f);
  cosine = add(mul(cosine, square), 0.015854325f);
  cosine = add(mul(cosine, square), -0.30842513f);
  cosine = add(mul(cosine, square), 1.0f);

  const bool swap = (b & 0x20000000u) != 0;
  const std::uint32_t first = to_bits(mul(radius, swap ? sine : cosine));
  const std::uint32_t second = to_bits(mul(radius, swap ? cosine : sine));
  return {from_bits(first ^ ((b << 1) & 0x80000000u)), from_bits(second ^ (b & 0x80000000u))};
}

}  // namespace hvae
