// CUDA's words for C++ on a processor, as far as TVM's generated source uses them. What threads do together is
// in emulated.cpp. Each kernel is started through `invoke`, by pointers to its arguments as the driver has them.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

struct Index { unsigned x, y, z; };
extern "C" {
extern Index threadIdx, blockIdx, blockDim, gridDim;
void emulated_barrier();
uint32_t emulated_shuffle(uint32_t value, int lane);
void emulated_mma(float* sums, const uint32_t* words);
}

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __restrict__ __restrict
#define __syncthreads emulated_barrier

typedef unsigned int uint;
struct half {
  _Float16 v;
  half() = default;
  half(float x) : v((_Float16)x) {}
  half(double x) : v((_Float16)x) {}
  half(int x) : v((_Float16)x) {}
  operator float() const { return (float)v; }
};
template <class T> struct alignas(2 * sizeof(T)) Two { T x, y; };
template <class T> struct alignas(4 * sizeof(T)) Four { T x, y, z, w; };
using float2 = Two<float>; using half2 = Two<half>; using int2 = Two<int>; using uint2 = Two<uint>;
using float4 = Four<float>; using half4 = Four<half>; using int4 = Four<int>; using uint4 = Four<uint>;
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T> T max(T a, T b) { return a < b ? b : a; }
template <class T> T min(T a, T b) { return b < a ? b : a; }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __expf(float x) { return expf(x); }

template <class T> T __shfl_sync(unsigned, T value, int lane, int) {
  uint32_t word;
  static_assert(sizeof(T) == 4);
  memcpy(&word, &value, 4);
  word = emulated_shuffle(word, lane);
  memcpy(&value, &word, 4);
  return value;
}

inline void edge_router_mma(float* sums, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  const uint32_t words[] = {a0, a1, a2, a3, b0, b1};
  emulated_mma(sums, words);
}

template <class... A, size_t... I>
void call_with(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*(A*)arguments[I]...);
}
template <class... A> void invoke(void (*kernel)(A...), void** arguments) {
  call_with(kernel, arguments, std::index_sequence_for<A...>());
}
template <class... A> size_t size_of(void (*)(A...), int i) {
  size_t sizes[] = {sizeof(A)..., 0};
  return sizes[i];
}

#define alignas(bytes) __attribute__((aligned(bytes)))  // TVM writes it where the standard does not allow it
