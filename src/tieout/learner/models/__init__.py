"""Load models, adapters and heads, and describe what an architecture supports."""
