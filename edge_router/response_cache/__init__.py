"""Answers that were given before, by what was asked: kept in memory or, where the user says so, on disk."""
