"""Training routers: the pool of labelled prompts, the encoder, the head, and choosing between variants."""
