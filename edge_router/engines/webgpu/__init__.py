"""Runs a program (`edge_router.program`) on any GPU through wgpu: Vulkan, Metal, D3D12."""
