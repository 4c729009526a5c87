"""Other people's programs, started so that they ask this server."""
