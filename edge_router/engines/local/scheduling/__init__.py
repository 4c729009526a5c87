"""Who is computed when, and what lies in the cache: one thread owns the model."""
