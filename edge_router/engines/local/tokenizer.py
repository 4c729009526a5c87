"""`edge_router.prompts.tokenizer` under the name by which it has been imported so far."""

from edge_router.prompts.tokenizer import TextTokenizer

__all__ = ["TextTokenizer"]
