"""Asking models what is then a label: both of a pair, or the weak one its typed questions."""
