"""The engine tvm: a compiled library on TVM's virtual machine, on the processor, CUDA or Metal."""
