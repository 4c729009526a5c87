"""The verbs, a file each, and what only one of them needs."""
