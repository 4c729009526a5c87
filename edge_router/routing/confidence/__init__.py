"""How sure the weak model is of an answer, seen before anything of it is shown."""
