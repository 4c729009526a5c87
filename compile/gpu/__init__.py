"""Kernels for TVM's GPU targets, CUDA and Metal: the same functions as in `compile.kernels`, over threads."""
