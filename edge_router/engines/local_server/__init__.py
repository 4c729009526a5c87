"""The weak model in a server that already runs: Ollama, LM Studio, llama.cpp's, vLLM, `mlc_llm serve`, ours.

It counts as local on this machine only, and on hosts that `weak.trusted_hosts` names: place.py. What runs
where, and which models it has, is asked by looking.py and read by servers.py. Questions go by the strong
engine's client (engines/openai.py), spoken as dialects.py says; what goes wrong becomes ours in failures.py.
"""

from __future__ import annotations

from edge_router.engines.choice import SERVED as NAME

__all__ = ["NAME"]
