"""Build time: weights in, a quantized MLC model directory and a compiled library out."""
