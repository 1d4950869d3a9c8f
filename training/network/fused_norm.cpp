// Batch norm or IBNorm with the ReLU behind it in one pass, forward and backward, for training on a
// CPU. Tensors are channels_last: images x pixels x channels in memory, of float32 or bfloat16.
//
// The first `batch_channels` channels are normalised over the whole batch with a weight and a bias,
// the others over their own image without. Everything is summed in blocks of float32 that are
// added up in float64.

#include "fused_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <limits>
#include <tuple>

namespace {

// Mean and variance of each channel of one image, about the first pixel, which keeps digits.
template <typename T>
void measure_image(const T* x, const Shape& shape, double* mean, double* variance) {
  const int64_t channels = shape.channels;
  const Rows rows = fold(shape);
  std::vector<float> first(channels);
  for (int64_t c = 0; c < channels; c++) first[c] = read(x[c]);
  const std::vector<float> origin = repeat(first.data(), channels, rows);
  const float* __restrict o = origin.data();
  const int64_t width = rows.width;
  const auto add = [=](int64_t row, float* __restrict a, float* __restrict b) {
    const T* __restrict values = x + row * width;
    for (int64_t i = 0; i < width; i++) {
      const float d = read(values[i]) - o[i];
      a[i] += d;
      b[i] += d * d;
    }
  };
  sum_rows(shape, rows, mean, variance, add);
  for (int64_t c = 0; c < channels; c++) {
    const double offset = mean[c] / shape.pixels;
    variance[c] = std::fmax(variance[c] / shape.pixels - offset * offset, 0);
    if (offset != offset) variance[c] = offset;  // fmax drops NaN
    mean[c] = origin[c] + offset;
  }
}

// Replaces the figures of each image by those of the batch and moves the running ones.
void join_batch(const Shape& shape, std::vector<double>& mean, std::vector<double>& variance,
                float* running_mean, float* running_var, double momentum) {
  const double count = static_cast<double>(shape.images) * shape.pixels;
  for (int64_t c = 0; c < shape.batch_channels; c++) {
    double m = 0, v = 0;
    for (int64_t n = 0; n < shape.images; n++) m += mean[n * shape.channels + c] / shape.images;
    for (int64_t n = 0; n < shape.images; n++) {
      const double d = mean[n * shape.channels + c] - m;
      v += (variance[n * shape.channels + c] + d * d) / shape.images;
    }
    running_mean[c] += momentum * (m - running_mean[c]);
    running_var[c] += momentum * (v * count / (count - 1) - running_var[c]);
    for (int64_t n = 0; n < shape.images; n++) {
      mean[n * shape.channels + c] = m;
      variance[n * shape.channels + c] = v;
    }
  }
}

template <typename T, bool kActive>
void apply(const T* x, T* y, const Shape& shape, const Factors& f, float top) {
  const Rows rows = fold(shape);
  const std::vector<float> means = repeat(f.mean, shape.channels, rows);
  const std::vector<float> scales = repeat(f.scale, shape.channels, rows);
  const std::vector<float> shifts = repeat(f.shift, shape.channels, rows);
  const float* __restrict mean = means.data();
  const float *__restrict scale = scales.data(), *__restrict shift = shifts.data();
  for (int64_t row = 0; row < rows.count; row++) {
    const T* __restrict values = x + row * rows.width;
    T* __restrict out = y + row * rows.width;
    for (int64_t i = 0; i < rows.width; i++) {
      const float value = (read(values[i]) - mean[i]) * scale[i] + shift[i];
      write(out + i, kActive ? activate(value, top) : value);
    }
  }
}

Factors of_image(const Factors& f, int64_t offset) {
  return {f.mean + offset, f.inverse_std + offset, f.scale + offset, f.shift + offset};
}

template <typename T, bool kActive>
void forward(const Tensor& x, const Tensor& y, const Tensor& weight, const Tensor& bias,
             const Tensor& running_mean, const Tensor& running_var, const Tensor& factors,
             const Shape& shape, double momentum, double eps, float top) {
  const T* in = x.data_ptr<T>();
  T* out = y.data_ptr<T>();
  const int64_t stride = shape.pixels * shape.channels;
  std::vector<double> mean(shape.images * shape.channels), variance(mean.size());
  at::parallel_for(0, shape.images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      measure_image(in + n * stride, shape, &mean[n * shape.channels],
                    &variance[n * shape.channels]);
  });
  join_batch(shape, mean, variance, running_mean.data_ptr<float>(), running_var.data_ptr<float>(),
             momentum);
  const Factors f = split(factors);
  const float *w = weight.data_ptr<float>(), *b = bias.data_ptr<float>();
  for (size_t i = 0; i < mean.size(); i++) {
    const int64_t c = i % shape.channels;
    const bool is_batch = c < shape.batch_channels;
    const double inverse_std = 1 / std::sqrt(variance[i] + eps);
    f.mean[i] = mean[i];
    f.inverse_std[i] = inverse_std;
    f.scale[i] = is_batch ? w[c] * inverse_std : inverse_std;
    f.shift[i] = is_batch ? b[c] : 0;
  }
  at::parallel_for(0, shape.images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      apply<T, kActive>(in + n * stride, out + n * stride, shape, of_image(f, n * shape.channels),
                        top);
  });
}

template <typename T, bool kActive>
void backward(const Tensor& x, const Tensor& gradient, const Tensor& dx, const Tensor& dweight,
              const Tensor& dbias, const Tensor& factors, const Shape& shape, float top) {
  const T *in = x.data_ptr<T>(), *above = gradient.data_ptr<T>();
  T* out = dx.data_ptr<T>();
  const int64_t channels = shape.channels, stride = shape.pixels * channels;
  const Factors all = split(factors);
  const Rows rows = fold(shape);
  // Of each image and channel: the sum of the gradient, and of the gradient times (x - mean).
  std::vector<double> sum(shape.images * channels), product(sum.size());
  at::parallel_for(0, shape.images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const Factors f = of_image(all, n * channels);
      const T *xs = in + n * stride, *gs = above + n * stride;
      const std::vector<float> means = repeat(f.mean, channels, rows);
      const std::vector<float> scales = repeat(f.scale, channels, rows);
      const std::vector<float> shifts = repeat(f.shift, channels, rows);
      const float *mean = means.data(), *scale = scales.data(), *shift = shifts.data();
      const auto add = [=](int64_t row, float* __restrict a, float* __restrict b) {
        const T* __restrict values = xs + row * rows.width;
        const T* __restrict g = gs + row * rows.width;
        for (int64_t i = 0; i < rows.width; i++) {
          const float centred = read(values[i]) - mean[i];
          float d = read(g[i]);
          if (kActive) d = gate(d, centred * scale[i] + shift[i], top);
          a[i] += d;
          b[i] += d * centred;
        }
      };
      sum_rows(shape, rows, &sum[n * channels], &product[n * channels], add);
    }
  });
  float *dw = dweight.data_ptr<float>(), *db = dbias.data_ptr<float>();
  for (int64_t c = 0; c < shape.batch_channels; c++) {
    double s = 0, p = 0;
    for (int64_t n = 0; n < shape.images; n++) s += sum[n * channels + c], p += product[n * channels + c];
    db[c] = s;
    dw[c] = p * all.inverse_std[c];
    for (int64_t n = 0; n < shape.images; n++) {
      sum[n * channels + c] = s / shape.images;
      product[n * channels + c] = p / shape.images;
    }
  }
  at::parallel_for(0, shape.images, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> slope(channels), offset(channels);
    for (int64_t n = begin; n < end; n++) {
      const Factors f = of_image(all, n * channels);
      for (int64_t c = 0; c < channels; c++) {
        const double k = f.inverse_std[c];
        slope[c] = -f.scale[c] * k * k * product[n * channels + c] / shape.pixels;
        offset[c] = -f.scale[c] * sum[n * channels + c] / shape.pixels;
      }
      const std::vector<float> means = repeat(f.mean, channels, rows);
      const std::vector<float> scales = repeat(f.scale, channels, rows);
      const std::vector<float> shifts = repeat(f.shift, channels, rows);
      const std::vector<float> slopes = repeat(slope.data(), channels, rows);
      const std::vector<float> offsets = repeat(offset.data(), channels, rows);
      const float *__restrict mean = means.data(), *__restrict scale = scales.data();
      const float *__restrict shift = shifts.data(), *__restrict s = slopes.data();
      const float* __restrict o = offsets.data();
      for (int64_t row = 0; row < rows.count; row++) {
        const T* __restrict values = in + n * stride + row * rows.width;
        const T* __restrict g = above + n * stride + row * rows.width;
        T* __restrict target = out + n * stride + row * rows.width;
        for (int64_t i = 0; i < rows.width; i++) {
          const float centred = read(values[i]) - mean[i];
          float d = read(g[i]);
          if (kActive) d = gate(d, centred * scale[i] + shift[i], top);
          write(target + i, scale[i] * d + s[i] * centred + o[i]);
        }
      }
    }
  });
}

// `top`: 0 for no activation, 6 for ReLU6, infinity for ReLU.
std::tuple<Tensor, Tensor> norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                        const Tensor& running_mean, const Tensor& running_var,
                                        double momentum, double eps, double top) {
  const Shape shape = measure(x, weight.size(0));
  const Tensor y = at::empty_like(x);
  const Tensor factors = at::empty({4, shape.images, shape.channels}, weight.options());
  const auto run = [&](auto function) {
    function(x, y, weight, bias, running_mean, running_var, factors, shape, momentum, eps, top);
  };
  if (x.scalar_type() == at::kBFloat16)
    top == 0 ? run(forward<BFloat16, false>) : run(forward<BFloat16, true>);
  else
    top == 0 ? run(forward<float, false>) : run(forward<float, true>);
  return {y, factors};
}

std::tuple<Tensor, Tensor, Tensor> norm_backward(const Tensor& x, const Tensor& gradient,
                                                 const Tensor& factors, int64_t batch_channels,
                                                 double top) {
  const Shape shape = measure(x, batch_channels);
  const Tensor dx = at::empty_like(x);
  const Tensor dweight = at::empty({batch_channels}, factors.options());
  const Tensor dbias = at::empty({batch_channels}, factors.options());
  const auto run = [&](auto function) {
    function(x, gradient, dx, dweight, dbias, factors, shape, top);
  };
  if (x.scalar_type() == at::kBFloat16)
    top == 0 ? run(backward<BFloat16, false>) : run(backward<BFloat16, true>);
  else
    top == 0 ? run(backward<float, false>) : run(backward<float, true>);
  return {dx, dweight, dbias};
}

// What evaluation does: `factors` (3, channels) are mean, scale and shift of all images.
Tensor norm_apply(const Tensor& x, const Tensor& factors, double top) {
  const Shape shape = measure(x, x.size(1));
  const Tensor y = at::empty_like(x);
  float* start = factors.data_ptr<float>();
  const Factors f = {start, nullptr, start + shape.channels, start + 2 * shape.channels};
  const auto run = [&]<typename T>(T) {
    const int64_t stride = shape.pixels * shape.channels;
    const T* in = x.data_ptr<T>();
    T* out = y.data_ptr<T>();
    at::parallel_for(0, shape.images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        if (top == 0)
          apply<T, false>(in + n * stride, out + n * stride, shape, f, top);
        else
          apply<T, true>(in + n * stride, out + n * stride, shape, f, top);
      }
    });
  };
  x.scalar_type() == at::kBFloat16 ? run(BFloat16()) : run(float());
  return y;
}

}  // namespace

TORCH_LIBRARY(matting, library) {
  library.def(
      "norm_forward(Tensor x, Tensor weight, Tensor bias, Tensor(a!) running_mean, "
      "Tensor(b!) running_var, float momentum, float eps, float top) -> (Tensor, Tensor)");
  library.def(
      "norm_backward(Tensor x, Tensor gradient, Tensor factors, int batch_channels, float top)"
      " -> (Tensor, Tensor, Tensor)");
  library.def("norm_apply(Tensor x, Tensor factors, float top) -> Tensor");
  library.impl("norm_apply", c10::DispatchKey::CPU, norm_apply);
  library.impl("norm_forward", c10::DispatchKey::CPU, norm_forward);
  library.impl("norm_backward", c10::DispatchKey::CPU, norm_backward);
}
