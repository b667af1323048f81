"""Sample on vLLM servers."""
