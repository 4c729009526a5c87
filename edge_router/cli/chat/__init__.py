"""One question or a conversation: read, asked, shown; also by a server that runs."""
