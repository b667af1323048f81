"""Read figures, sentences, claims and structured data from text."""
