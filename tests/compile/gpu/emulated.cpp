// A GPU that is a processor: CUDA's driver and run time as far as TVM calls them. A "module" is the path of a
// shared library with kernels that were compiled for this processor (see emulated.h); memory is the process's own.
//
// The threads of a block are fibers, of which one runs until it waits for the others. Whoever waits where the others
// have ended, or at another kind of place than they do, would hang a real GPU: here the process ends and says so.
// EMULATED_ORDER=reverse lets the last thread go first: a result that differs shows a barrier that is missing.
// EMULATED_LOST=N: launch number N and all that is asked afterwards fail, as on a GPU that is gone.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

struct Index { unsigned x, y, z; };
extern "C" {
Index threadIdx, blockIdx, blockDim, gridDim;
}

namespace {
constexpr int kWarp = 32, kMost = 1024;
constexpr size_t kStack = 256 << 10;
enum State { kRunning, kBarrier, kWarpWait, kDone };
struct Fiber { void* stack_pointer; State state; unsigned exchanges; };
using Call = void (*)(void**);
using Size = size_t (*)(int);
struct Function { Call call; Size size; };

Fiber fibers[kMost];
char* stacks = nullptr;
void* scheduler_pointer;
int current, count;
Call kernel_call;
void** kernel_arguments;
uint32_t exchanged[2][kMost][6];

extern "C" void emulated_switch(void** save, void* load);
__asm__(R"(
.text
.globl emulated_switch
.hidden emulated_switch
emulated_switch:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  ret
)");

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "emulated GPU: %s in block (%u, %u), thread %d\n", what, blockIdx.x, blockIdx.y, current);
  _exit(3);
}

void wait(State state) {
  fibers[current].state = state;
  emulated_switch(&fibers[current].stack_pointer, scheduler_pointer);
}

void body() {
  kernel_call(kernel_arguments);
  wait(kDone);
}

void prepare(int i) {
  char* top = stacks + (i + 1) * kStack - 64;
  top = (char*)((uintptr_t)top & ~(uintptr_t)15) - 8;  // as after a call
  void** words = (void**)top;
  *--words = (void*)body;
  for (int r = 0; r < 6; ++r) *--words = nullptr;
  fibers[i] = {words, kRunning, 0};
}

void resume(int i) {
  current = i;
  threadIdx = {(unsigned)i, 0, 0};
  emulated_switch(&scheduler_pointer, fibers[i].stack_pointer);
}

// Wake every fiber of [first, last) if all of them wait in `state`; false if none does.
bool release(int first, int last, State state) {
  int waiting = 0, elsewhere = 0;
  for (int i = first; i < last; ++i) (fibers[i].state == state ? waiting : elsewhere)++;
  if (!waiting) return false;
  if (elsewhere) return false;
  for (int i = first; i < last; ++i) fibers[i].state = kRunning;
  return true;
}

void run_block(bool backwards) {
  for (int i = 0; i < count; ++i) prepare(i);
  for (;;) {
    int done = 0;
    for (int n = 0; n < count; ++n) {
      int i = backwards ? count - 1 - n : n;
      if (fibers[i].state == kRunning) resume(i);
    }
    bool moved = false;
    for (int w = 0; w < count; w += kWarp) moved |= release(w, w + kWarp < count ? w + kWarp : count, kWarpWait);
    moved |= release(0, count, kBarrier);
    for (int i = 0; i < count; ++i) done += fibers[i].state == kDone;
    if (done == count) return;
    if (!moved) {
      for (int i = 0; i < count; ++i)
        if (fibers[i].state != kDone) current = i;
      fail("threads wait for others that will never come");
    }
  }
}

float half_of(uint32_t word, int which) {
  uint16_t bits = which ? word >> 16 : word & 0xFFFF;
  _Float16 value;
  memcpy(&value, &bits, 2);
  return (float)value;
}
}  // namespace

extern "C" void emulated_barrier() { wait(kBarrier); }

extern "C" uint32_t emulated_shuffle(uint32_t value, int lane) {
  int half = fibers[current].exchanges++ & 1, first = current / kWarp * kWarp;
  exchanged[half][current][0] = value;
  wait(kWarpWait);
  return exchanged[half][first + (lane & (kWarp - 1))][0];
}

// PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
extern "C" void emulated_mma(float* sums, const uint32_t* words) {
  int half = fibers[current].exchanges++ & 1, first = current / kWarp * kWarp, lane = current % kWarp;
  memcpy(exchanged[half][current], words, sizeof(exchanged[half][current]));
  wait(kWarpWait);
  for (int i = 0; i < 4; ++i) {
    int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
    float sum = sums[i];
    for (int k = 0; k < 16; ++k) {
      const uint32_t* a = exchanged[half][first + row % 8 * 4 + k % 8 / 2];
      const uint32_t* b = exchanged[half][first + column * 4 + k % 8 / 2];
      sum += half_of(a[(row >= 8) + (k >= 8) * 2], k % 2) * half_of(b[4 + (k >= 8)], k % 2);
    }
    sums[i] = sum;
  }
}

// ---- what is counted and captured; emulated_runtime.cpp has the rest of both --------------------------------------

struct Launch {
  Function* function;
  unsigned grid[2], threads;
  std::vector<std::vector<char>> arguments;
};
using Graph = std::vector<Launch>;

extern "C" {
uint64_t emulated_counts[3];       // kernels launched one by one, graphs launched, kernels within them
Graph* emulated_captured = nullptr;  // into which what is launched on the stream goes that is captured
void* emulated_captured_stream = nullptr;
}

namespace {
bool lost() {
  static const char* text = getenv("EMULATED_LOST");
  return text && emulated_counts[0] + emulated_counts[2] >= strtoull(text, nullptr, 10);
}

CUresult run(Function* function, const unsigned* grid, unsigned threads, void** arguments) {
  static const char* order = getenv("EMULATED_ORDER");
  if (lost()) return CUDA_ERROR_ILLEGAL_ADDRESS;
  if (!stacks)
    stacks = (char*)mmap(nullptr, kStack * kMost, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  count = threads;
  blockDim = {threads, 1, 1};
  gridDim = {grid[0], grid[1], 1};
  kernel_call = function->call;
  kernel_arguments = arguments;
  for (unsigned y = 0; y < grid[1]; ++y)
    for (unsigned x = 0; x < grid[0]; ++x) {
      blockIdx = {x, y, 0};
      run_block(order && !strcmp(order, "reverse"));
    }
  return CUDA_SUCCESS;
}
}  // namespace

extern "C" int emulated_replay(Graph* graph) {
  emulated_counts[1]++;
  for (Launch& launch : *graph) {
    std::vector<void*> pointers;
    for (auto& argument : launch.arguments) pointers.push_back(argument.data());
    if (run(launch.function, launch.grid, launch.threads, pointers.data())) return 1;
    emulated_counts[2]++;
  }
  return 0;
}
extern "C" Graph* emulated_new_graph() { return new Graph; }
extern "C" int emulated_lost() { return lost(); }

// ---- the driver ----------------------------------------------------------------------------------------------------

extern "C" {
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  *module = (CUmodule)dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
  if (!*module) fprintf(stderr, "emulated GPU: %s\n", dlerror());
  return *module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  auto found = [&](const char* kind) { return dlsym(module, (kind + std::string(name)).c_str()); };
  auto made = new Function{(Call)found("call_"), (Size)found("size_")};
  *function = (CUfunction)made;
  return made->call ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char* name, int size, CUdevice) { snprintf(name, size, "emulated GPU"); return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult status, const char** text) {
  *text = status == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_EMULATED";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char** text) { *text = "emulated error"; return CUDA_SUCCESS; }
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** arguments, void**) {
  unsigned grid[] = {config->gridDimX, config->gridDimY}, threads = config->blockDimX;
  if (threads > kMost || config->blockDimY != 1 || config->blockDimZ != 1) return CUDA_ERROR_INVALID_VALUE;
  if (!grid[0] || !grid[1] || grid[1] > 65535 || config->gridDimZ != 1) return CUDA_ERROR_INVALID_VALUE;
  auto made = (Function*)function;
  if (emulated_captured && config->hStream == (CUstream)emulated_captured_stream) {
    Launch launch{made, {grid[0], grid[1]}, threads, {}};
    for (int i = 0; size_t size = made->size(i); ++i)
      launch.arguments.emplace_back((char*)arguments[i], (char*)arguments[i] + size);
    emulated_captured->push_back(launch);
    return CUDA_SUCCESS;
  }
  CUresult status = run(made, grid, threads, arguments);
  emulated_counts[0]++;
  return status;
}
}
