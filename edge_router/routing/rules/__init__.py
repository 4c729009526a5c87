"""The user's own rules, asked before any score: a file of them, what they look at, and what they say.

A rule holds where all of its conditions do. Those that protect (`block`, `local_only`, `redact`) hold beside
each other wherever they stand in the file; of those that name a model the first one counts.
"""
