// CUDA's run time beside emulated.cpp: memory is the process's own, and everything has happened when a call returns.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

static size_t total() {
  const char* text = getenv("EMULATED_MEMORY");
  return text ? strtoull(text, nullptr, 10) : (size_t)1 << 32;
}
static size_t taken = 0;
static const size_t kHead = 256;

extern "C" {
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
  if (taken + size > total()) return cudaErrorMemoryAllocation;
  char* place = (char*)aligned_alloc(kHead, (size + 2 * kHead - 1) / kHead * kHead);
  memcpy(place, &size, sizeof size);
  memset(place + kHead, 0xFF, size);  // not a number: what nobody wrote must not be used
  taken += size;
  *pointer = place + kHead;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
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
cudaError_t cudaFreeHost(void* pointer) { free(pointer); return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* left, size_t* all) { *all = total(); *left = *all - taken; return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t) {
  memmove(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t n, cudaStream_t) {
  memmove(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { *event = (cudaEvent_t)1; return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { *ms = 1; return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { *stream = (cudaStream_t)2; return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { *stream = (cudaStream_t)2; return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return cudaErrorNotSupported; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) { return cudaErrorNotSupported; }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) { return cudaErrorNotSupported; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return cudaErrorNotSupported; }
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "emulated error"; }
const char* cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "emulated"; }
}
