"""`python -m edge_router` is `edge-router`."""

from __future__ import annotations

from edge_router.cli.main import main

if __name__ == "__main__":
    main()
