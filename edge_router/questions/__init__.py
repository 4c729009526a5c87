"""Typed questions about a state, answered with probabilities in place of words; no protocol, no model."""
