"""What a model directory says of text: a conversation becomes the tokens of a prompt, and an answer ends."""
