// What the kernel of norms is made of: pixels as rows, numbers of both kinds, sums over rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace {

using at::Tensor;
using c10::BFloat16;

constexpr int64_t kBlock = 128;  // rows that are summed in float32
constexpr int64_t kWidth = 64;   // channels a row has at least: shorter loops are slow

struct Shape {
  int64_t images, pixels, channels, batch_channels;
};

// y = (x - mean) * scale + shift, each images x channels; of inverse_std the scale is a multiple.
struct Factors {
  float *mean, *inverse_std, *scale, *shift;
};

Shape measure(const Tensor& x, int64_t batch_channels) {
  return {x.size(0), x.size(2) * x.size(3), x.size(1), batch_channels};
}

// The pixels of an image as rows of one or more: few channels make short loops.
struct Rows {
  int64_t count, width;
};

Rows fold(const Shape& shape) {
  int64_t pixels = std::clamp<int64_t>(kWidth / shape.channels, 1, shape.pixels);
  while (shape.pixels % pixels) pixels--;
  return {shape.pixels / pixels, shape.channels * pixels};
}

// Figures of channels once for each pixel of a row.
std::vector<float> repeat(const float* figures, int64_t channels, const Rows& rows) {
  std::vector<float> result(rows.width);
  for (int64_t i = 0; i < rows.width; i++) result[i] = figures[i % channels];
  return result;
}

Factors split(const Tensor& factors) {
  const int64_t count = factors.size(1) * factors.size(2);
  float* start = factors.data_ptr<float>();
  return {start, start + count, start + 2 * count, start + 3 * count};
}

inline float read(float value) { return value; }
inline float read(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.x) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}

inline void write(float* target, float value) { *target = value; }
inline void write(BFloat16* target, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  // To the nearest, ties to even; the sum would turn some NaN into numbers.
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  target->x = static_cast<uint16_t>(value == value ? rounded : 0x7fc0);
}

// NaN passes through, so that a diverged run is seen.
inline float activate(float value, float top) {
  value = value < 0 ? 0 : value;
  return value > top ? top : value;
}

inline float gate(float gradient, float value, float top) {
  gradient = value > 0 ? gradient : 0;
  return value < top ? gradient : 0;
}

// Adds over the rows of an image: add(row, first, second) adds to two rows.
template <typename Add>
void sum_rows(const Shape& shape, const Rows& rows, double* first, double* second,
              const Add& add) {
  std::vector<float> block(2 * rows.width);
  float *a = block.data(), *b = a + rows.width;
  for (int64_t start = 0; start < rows.count; start += kBlock) {
    std::fill(block.begin(), block.end(), 0.f);
    const int64_t end = std::min(start + kBlock, rows.count);
    for (int64_t row = start; row < end; row++) add(row, a, b);
    for (int64_t i = 0; i < rows.width; i++) {
      first[i % shape.channels] += a[i];
      second[i % shape.channels] += b[i];
    }
  }
}

}  // namespace
