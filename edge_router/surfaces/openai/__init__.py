"""OpenAI's chats and completions, and what all who speak its form share."""
