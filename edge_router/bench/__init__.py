"""Measuring on this machine: the weak model, a decision, memory against its plan."""
