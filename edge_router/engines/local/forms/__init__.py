"""What answers are held to, token by token: JSON of a schema, grammars, calls of tools."""
