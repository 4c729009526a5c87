"""CPU kernels, written as TVM's tensor programs."""
