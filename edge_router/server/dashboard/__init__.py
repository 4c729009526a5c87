"""The dashboard: one page at `/` for the server's owner, what it shows, and the link that opens it."""
