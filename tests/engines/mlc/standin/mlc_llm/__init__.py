"""Stands in for mlc_llm: the names, types and habits that edge_router relies on, and nothing else.

Every call leaves a line in the file named by MLC_STANDIN_LOG.
"""

from .serve import AsyncMLCEngine as AsyncMLCEngine

print("loaded, and chatty on stdout")  # noqa: T201 - as Python packages may be
