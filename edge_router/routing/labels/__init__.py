"""What both models' answers were worth: reading such labels, and making them with one's own models."""
