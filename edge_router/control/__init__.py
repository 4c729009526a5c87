"""Which model answers, and what it takes to ask it: decisions, models by name, one answer under way."""
