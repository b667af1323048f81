"""Special tokens of the tiny tokenizers that the fixtures make."""

# <|endoftext|> is unused: AutoTokenizer would add it to the qwen2 tokenizer, past the model's vocabulary.
SPECIAL_TOKENS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>"]
