"""tieout: fine-tune language models by reinforcement and preference, and prove that it worked."""
