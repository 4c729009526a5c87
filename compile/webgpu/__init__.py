"""From a model's numbers to a program for WebGPU: its own shaders, TVM for everything between them."""
