"""From chosen tokens to an answer: its text, its parts, its calls, its end."""
