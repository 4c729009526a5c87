"""The weak model through MLC's engine, where the package mlc_llm is installed.

It lives in a process of its own (child.py): a library that another TVM has built makes its constructor hang
for ever, and without `terminate` the process it is in never ends. Prompts are made here, with the template
and the tokenizer of the engine tvm, and go over as tokens: so both engines see the same prompt, what a user
pastes cannot become a control token, and roles that MLC's own chat formats refuse are no trouble.
"""

from __future__ import annotations

NAME = "mlc"
