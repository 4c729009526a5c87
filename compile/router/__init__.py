"""The routers' ONNX graphs, built by hand."""
