"""Runs a program (`edge_router.webgpu_program`) on any GPU through wgpu: Vulkan, Metal, D3D12."""
