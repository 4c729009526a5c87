"""Several endpoints as one strong model: which is asked, which rests, and who answers instead."""
