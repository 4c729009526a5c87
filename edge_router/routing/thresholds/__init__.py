"""Which threshold: from prompts, moved to hold a share or a sum of money, tried on what was answered."""
