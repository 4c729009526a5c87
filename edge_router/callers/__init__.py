"""Who may ask: keys, what each may use, how much of it, and for how much money."""
