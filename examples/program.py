"""From a reward and rows to a saved adapter and a verdict. Each `# %%` is a cell: it opens as a notebook, too.

    python examples/program.py

It trains tieout-base, which is in the package, in the folder `runs/program`.
"""

# %% A reward, attacked before it is trained on
from pathlib import Path

from tieout import attack, dpo, evaluate, gate, grpo, save, sft

HERE = Path(__file__).parent if "__file__" in globals() else Path("examples")
OUT = Path("runs/program")
REWARD = f"{HERE}/my_reward.py:close"
print(attack(REWARD, HERE / "data" / "train.jsonl", seconds=2.0).verdict)

# %% Demonstrations: a file. The fields of the method are keywords
tuned = sft(
    "tieout-base", HERE / "data" / "train.jsonl", out=OUT / "sft", learning_rate=1e-3, epochs=2, batch_size=16
)

# %% Preferences: rows as a list, here the right figure and the other one of the question
FIGURES = [
    ("Cash", "1,204", "Goodwill", "977"),
    ("Debt", "310", "Equity", "8,115"),
    ("Sales", "45", "Costs", "4,120"),
]
pairs = [
    {
        "prompt": [{"role": "user", "content": f"{a} was {x}. {b} was {y}. What was {a}?"}],
        "chosen": x,
        "rejected": y,
    }
    for a, x, b, y in FIGURES
]
preferred = dpo(tuned, pairs, out=OUT / "dpo", beta=0.1, batch_size=3)

# %% A reward: the model samples, the reward scores
rewarded = grpo(
    tuned,
    HERE / "data" / "train.jsonl",
    REWARD,
    out=OUT / "grpo",
    batch_size=16,
    group_size=4,
    max_new_tokens=8,
    epochs=0.25,
)

# %% Curves are lists of dictionaries
print([round(step["loss"], 3) for step in tuned.metrics])

# %% The same test rows for all: intervals, paired differences, a report; without controls the gate holds
found = evaluate(
    ["tieout-base", tuned, preferred, rewarded], HERE / "data" / "test.jsonl", REWARD, out=OUT / "report"
)
print(found.figures)
print(gate(OUT / "report")["verdict"])

# %% An adapter with its tokenizer, for PEFT, transformers and vLLM
print(save(rewarded, OUT / "adapter"))
