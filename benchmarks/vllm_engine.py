"""vLLM for `decoder.py`, run by the Python of its own environment: vllm_engine.py FOLDER COMPLETIONS

FOLDER holds a model without a tokenizer, and prompts.json with token ids. Each line of standard input is a number of
tokens; the answer, a line `tokens N`, comes when every prompt has its completions of that length.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams


def main() -> None:
    folder, completions = sys.argv[1], int(sys.argv[2])
    prompts = json.loads((Path(folder) / "prompts.json").read_text())
    engine = LLM(
        model=folder,
        dtype="float32",
        max_model_len=1024,
        skip_tokenizer_init=True,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
    )
    for line in sys.stdin:
        engine.reset_prefix_cache()  # a prompt is computed in each round, but once for all of its completions
        params = SamplingParams(
            n=completions,
            temperature=1.0,
            max_tokens=int(line),
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
        )
        done = engine.generate([{"prompt_token_ids": p} for p in prompts], params, use_tqdm=False)
        print("tokens", sum(len(o.token_ids) for r in done for o in r.outputs), flush=True)


if __name__ == "__main__":
    main()
