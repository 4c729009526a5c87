// CUDA's run time beside emulated.cpp: memory is the process's own, and everything has happened when a call returns.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

static size_t total() {
  const char* text = getenv("EMULATED_MEMORY");
  return text ? strtoull(text, nullptr, 10) : (size_t)1 << 32;
}
static size_t taken = 0, streams = 2;
static const size_t kHead = 256;

extern "C" {
extern void* emulated_captured;  // see emulated.cpp, like what follows
extern void* emulated_captured_stream;
void* emulated_new_graph();
int emulated_replay(void* graph);
int emulated_lost();
static cudaError_t state() { return emulated_lost() ? cudaErrorIllegalAddress : cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  p->totalGlobalMem = total();
  p->major = 8; p->minor = 9; p->warpSize = 32; p->maxThreadsPerBlock = 1024; p->sharedMemPerBlock = 48 << 10;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  switch (what) {
    case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 9; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 << 10; break;
    default: *value = 1024;
  }
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** pointer, size_t size) {
  if (emulated_captured) return cudaErrorStreamCaptureUnsupported;
  if (state()) return state();
  if (taken + size > total()) return cudaErrorMemoryAllocation;
  char* place = (char*)aligned_alloc(kHead, (size + 2 * kHead - 1) / kHead * kHead);
  memcpy(place, &size, sizeof size);
  memset(place + kHead, 0xFF, size);  // not a number: what nobody wrote must not be used
  taken += size;
  *pointer = place + kHead;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  if (state()) return state();
  if (!pointer) return cudaSuccess;
  size_t size;
  memcpy(&size, (char*)pointer - kHead, sizeof size);
  taken -= size;
  free((char*)pointer - kHead);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** pointer, size_t size) {
  *pointer = aligned_alloc(256, (size + 255) / 256 * 256);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  if (state()) return state();
  free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* left, size_t* all) { *all = total(); *left = *all - taken; return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t stream) {
  if (emulated_captured && stream == emulated_captured_stream) return cudaErrorStreamCaptureUnsupported;
  if (state()) return state();
  memmove(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t n, cudaStream_t) {
  memmove(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { *event = (cudaEvent_t)1; return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return state(); }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { *ms = 1; return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return state(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return state(); }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { *stream = (cudaStream_t)++streams; return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return cudaStreamCreate(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return state(); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return state(); }
cudaError_t cudaDeviceSynchronize() { return state(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (emulated_captured) return cudaErrorIllegalState;
  if (!stream) return cudaErrorStreamCaptureUnsupported;
  emulated_captured = emulated_new_graph();
  emulated_captured_stream = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = (cudaGraph_t)emulated_captured;
  emulated_captured = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = (cudaGraphExec_t)graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  return emulated_replay(graph) ? cudaErrorIllegalAddress : cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return state(); }
cudaError_t cudaPeekAtLastError() { return state(); }
cudaError_t cudaMemset(void* to, int value, size_t n) { memset(to, value, n); return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { *version = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { *version = 13000; return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "emulated error"; }
const char* cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "emulated"; }
}
