"""The shaders that decide the speed, each as a function from shapes to WGSL."""
