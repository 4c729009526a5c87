"""Sizes that only a real GPU can judge: `edge-router bench weak --tune` measures these and others there.

Two more are known to what runs a program, too: `FEW_ROWS` and `FAR` in `edge_router.webgpu_program`.
"""

from __future__ import annotations

# One row times a matrix. Threads of a workgroup, and rows of the matrix for each of its teams: the first that
# makes enough workgroups to keep a large GPU busy is taken. A team has as many lanes as leave few idle.
LAYOUTS = ((128, 4), (128, 2), (64, 2), (64, 1))
LANES = (4, 8, 16, 32)
WORKGROUPS = 256

# Many rows times a matrix: so many of them to a tile, which is 64 columns wide.
TILE = 64

# Into how many shares a long past is taken: a hundred workgroups or more, with a few hundred tokens each.
MANY_HEADS, SHARES_OF_MANY, SHARES_OF_FEW = 16, 4, 8
