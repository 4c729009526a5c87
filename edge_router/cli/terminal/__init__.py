"""What a person sees and types: the two streams, sentences, progress, pictures, questions."""
