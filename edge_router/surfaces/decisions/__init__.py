"""Typed questions answered with probabilities: TypeSafe's System One, and OpenAI's Decisions."""
