"""How well a local model calls tools: a suite that is made up, measured once, kept with the weights."""
