"""The settings: what each section holds, where a value came from, and what is refused."""
