// The integer kernels over shapes and types, each array exactly as large as a call may touch:
// built with AddressSanitizer and UndefinedBehaviorSanitizer by tests/ops/sanitize.sh. All
// instruction sets must give what the baseline gives.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../../../csrc/integer/kernels.h"

namespace {

using namespace hvae::integer;

enum class Result { kValues, kResidual, kPixels, kSums };

struct Case {
  std::int64_t height, width, channels[2], outputs;
  int kernel, stride, padding;
  std::int64_t shuffle;
  bool bytes;
  Result result;
};

std::uint32_t state = 1;

std::int32_t drawn(std::int32_t magnitude) {  // -magnitude..magnitude
  state = state * 1664525U + 1013904223U;
  return static_cast<std::int32_t>((state >> 8) % (2U * magnitude + 1)) - magnitude;
}

template <typename Value>
std::vector<Value> array(std::int64_t count, std::int32_t magnitude, std::int32_t shift = 0) {
  std::vector<Value> made(count);
  for (Value& value : made) {
    value = static_cast<Value>(drawn(magnitude) + shift);
  }
  return made;
}

// All that a call writes, as ints.
std::vector<std::int32_t> run(const Kernels& kernels, const Case& k) {
  constexpr std::int64_t images = 2;
  state = 7;
  Convolution c{};
  std::vector<std::uint8_t> bytes[2];
  std::vector<std::int16_t> shorts[2];
  std::int64_t channels = 0;
  for (int i = 0; i < 2 && k.channels[i] > 0; ++i) {
    const std::int64_t count = images * k.height * k.width * k.channels[i];
    const void* values;
    if (k.bytes) {
      bytes[i] = array<std::uint8_t>(count, 127, 128);
      values = bytes[i].data();
    } else {
      shorts[i] = array<std::int16_t>(count, 32767);
      values = shorts[i].data();
    }
    c.inputs[c.input_count++] = {values, k.channels[i]};
    channels += k.channels[i];
  }
  const std::int64_t groups = (k.outputs + kGroup - 1) / kGroup, padded = groups * kGroup;
  const std::int64_t each = k.kernel * k.kernel * channels;
  const auto narrow = array<std::int8_t>(k.bytes ? padded * each : 0, 127);
  const auto wide = array<std::int16_t>(k.bytes ? 0 : padded * each, (1 << 14) / each);
  const auto bias = array<std::int32_t>(padded, 1 << 20);
  std::vector<float> positive(padded, k.bytes ? 1e-2F : 1e-4F), negative(padded, 1e38F);
  c.height = k.height;
  c.width = k.width;
  c.kernel = k.kernel;
  c.stride = k.stride;
  c.padding = k.padding;
  c.out_height = (k.height + 2 * k.padding - k.kernel) / k.stride + 1;
  c.out_width = (k.width + 2 * k.padding - k.kernel) / k.stride + 1;
  c.outputs = k.outputs;
  c.weights = k.bytes ? static_cast<const void*>(narrow.data()) : wide.data();
  c.bias = k.result == Result::kSums ? nullptr : bias.data();
  const std::int64_t count = images * c.out_height * c.out_width * k.outputs;
  const auto residual = array<std::int16_t>(count, 32767);
  std::vector<std::int16_t> values(k.result <= Result::kResidual ? count : 0);
  std::vector<std::uint8_t> pixels(k.result == Result::kPixels ? count : 0);
  std::vector<std::int32_t> sums(k.result == Result::kSums ? count : 0, 5);
  c.output = {nullptr, nullptr, nullptr, nullptr, positive.data(), negative.data(), -16383, 16383,
              k.shuffle};
  switch (k.result) {
    case Result::kResidual: c.output.residual = residual.data(); [[fallthrough]];
    case Result::kValues: c.output.values = values.data(); break;
    case Result::kPixels:
      c.output.pixels = pixels.data();
      c.output.low = 0;
      c.output.high = 255;
      break;
    case Result::kSums: c.output.sums = sums.data(); break;
  }
  const Convolve convolve = k.bytes ? kernels.convolve_bytes : kernels.convolve;
  const std::int64_t rows = images * c.out_height;
  convolve(c, 0, rows / 2);
  convolve(c, rows / 2, rows);
  std::vector<std::int32_t> all(sums);
  all.insert(all.end(), values.begin(), values.end());
  all.insert(all.end(), pixels.begin(), pixels.end());
  return all;
}

std::vector<std::uint8_t> narrowed(const Kernels& kernels, std::int64_t count, float factor) {
  state = 3;
  const auto values = array<std::int16_t>(count, 32767);
  std::vector<std::uint8_t> results(count);
  kernels.narrow(values.data(), count, factor, results.data());
  return results;
}

std::vector<Case> cases() {
  constexpr int shapes[][3] = {{1, 1, 0}, {2, 2, 0}, {3, 1, 1}, {3, 2, 1}, {2, 1, 1}};
  constexpr std::int64_t channels[][2] = {{4, 0}, {12, 0}, {36, 0}, {4, 8}};
  constexpr std::int64_t outputs[] = {1, 16, 20, 48, 84, 96, 128};
  std::vector<Case> made;
  for (const auto& [kernel, stride, padding] : shapes) {
    for (const auto& c : channels) {
      for (const std::int64_t o : outputs) {
        for (const std::int64_t width : {3, 8, 13}) {
          for (int variant = 0; variant < 16; ++variant) {
            const std::int64_t shuffle = (variant & 1) != 0 && o % 4 == 0 ? 2 : 1;
            made.push_back({3, width, {c[0], c[1]}, o, kernel, stride, padding, shuffle,
                            (variant & 2) != 0, static_cast<Result>(variant / 4)});
          }
        }
      }
    }
  }
  return made;
}

}  // namespace

int main() {
  std::vector<const Kernels*> tables{&kBaseline};
#if defined(HVAE_X86)
  if (__builtin_cpu_supports("avx2")) {
    tables.push_back(&kAvx2);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    tables.push_back(&kAvx512);
    if (__builtin_cpu_supports("avx512vnni")) {
      tables.push_back(&kAvx512Vnni);
    }
  }
#endif
  long calls = 0;
  for (const Case& k : cases()) {
    const auto expected = run(kBaseline, k);
    for (const Kernels* table : tables) {
      if (run(*table, k) != expected) {
        std::printf("%s differs from the baseline: kernel %d, %ld outputs, %s\n", table->simd_level,
                    k.kernel, static_cast<long>(k.outputs), k.bytes ? "bytes" : "int16");
        return EXIT_FAILURE;
      }
      ++calls;
    }
  }
  for (const std::int64_t count : {0, 1, 15, 16, 31, 64, 1001}) {
    for (const float factor : {1e-3F, 0.5F, 1e38F}) {
      for (const Kernels* table : tables) {
        if (narrowed(*table, count, factor) != narrowed(kBaseline, count, factor)) {
          std::printf("%s narrows otherwise than the baseline\n", table->simd_level);
          return EXIT_FAILURE;
        }
        ++calls;
      }
    }
  }
  std::printf("%ld calls of integer kernels, %zu instruction sets\n", calls, tables.size());
  return EXIT_SUCCESS;
}
