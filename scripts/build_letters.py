"""Train `tieout-letters` from nothing: a tiny Llama whose tokens are letters, on games of players of all strengths.

    python scripts/build_letters.py --out runs/letters --install

It learns to spell the words of the task `wordle`, from lists of them, and the form of a game. Five players write its
games: one guesses any word, one looks at the last marks only, one at capital letters, one at which letters occur, one
at all marks. No word of a held-out split is ever the word to be found; all are guessed. Seeded; it stops by time, so
that a faster machine trains on more games. See docs/stories/wordle.md.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tieout.tasks.wordle import NO_GUESS, NO_WORD, NUM_GUESSES, SYSTEM, play
from tieout.tasks.wordle_words import left_by, mark, solutions, words_of

INSTALLED = Path(__file__).parent.parent / "src" / "tieout" / "embedded" / "tieout_letters"
SPECIAL = ("<|pad|>", "<|end|>", "<|unknown|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SENTENCES = (
    SYSTEM,
    NO_GUESS,
    NO_WORD,
    *(f"\nGuess {i} of {NUM_GUESSES}:" for i in range(1, NUM_GUESSES + 1)),
)
"""What the game says in the same words every time: a token each."""
PLAYERS = {"any": 0.15, "last": 0.2, "places": 0.15, "letters": 0.2, "all": 0.3}
"""Who writes the games, and how often."""
LISTS = 0.1
"""Share of the documents that are a list of words."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every printable character, and for every sentence of the game."""
    characters = ["\n", *map(chr, range(32, 127))]
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *characters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<|unknown|>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*SENTENCES, ": ")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        unk_token="<|unknown|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Half a million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=32,
        initializer_range=0.05,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


# --- games --------------------------------------------------------------------------------------------------

_LETTERS = np.array([list(word) for word in solutions()])


def fits(player: str, guesses: list[str], word: str) -> np.ndarray:
    """[number of solutions] bool: the words that a player would guess next."""
    if player in ("last", "all"):
        return left_by(tuple(guesses[-1:] if player == "last" else guesses), word)
    good = np.ones(len(solutions()), bool)
    for guess in guesses if player != "any" else ():
        marks = mark(guess, word)
        for place, letter in enumerate(marks):
            if player == "places" and letter.isupper():
                good &= _LETTERS[:, place] == letter.lower()
            elif player == "letters":
                there = np.isin(_LETTERS, guess[place]).any(1)
                good &= there == (guess[place] in marks.lower())
    return good


def game(chance: random.Random) -> list[dict[str, str]]:
    """The messages of one game."""
    word = chance.choice(words_of("train"))
    (player,) = chance.choices(list(PLAYERS), list(PLAYERS.values()))
    rules, guesses = play({"word": word}), list[str]()
    messages = [{"role": "user", "content": next(rules)}]
    with suppress(StopIteration):
        while True:
            guesses.append(solutions()[chance.choice(np.flatnonzero(fits(player, guesses, word)))])
            messages.append({"role": "assistant", "content": guesses[-1]})
            messages.append({"role": "user", "content": rules.send(guesses[-1])})
    return messages


def word_list(chance: random.Random) -> list[dict[str, str]]:
    """The messages of a list of words, about as long as a game."""
    words = "\n".join(chance.sample(solutions(), 18))
    return [{"role": "user", "content": "Words?"}, {"role": "assistant", "content": words}]


def batches(
    tokenizer: PreTrainedTokenizerFast, size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """[B, T] tokens and which of them are trained: what the player said, and the end of its turn."""
    chance = random.Random(seed)
    begins, ends = tokenizer.convert_tokens_to_ids("<|assistant|>"), tokenizer.eos_token_id
    while True:
        made = [(word_list if chance.random() < LISTS else game)(chance) for _ in range(size)]
        texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in made]
        rows = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")["input_ids"]
        trained, said = torch.zeros_like(rows, dtype=torch.bool), torch.zeros(len(rows), dtype=torch.bool)
        for column in range(rows.shape[1]):
            trained[:, column] = said
            said = (said | (rows[:, column] == begins)) & (rows[:, column] != ends)
        yield rows, trained


# --- training -----------------------------------------------------------------------------------------------


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, given: argparse.Namespace) -> None:
    """Muon for matrices, AdamW for the rest; the rate falls to 0 with the games left, or with the time."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed_tokens" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(
        matrices, lr=given.learning_rate * 1.5, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=given.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    started, progress, losses = time.monotonic(), 0.0, list[float]()
    for step, (rows, trained) in enumerate(batches(tokenizer, given.batch_size, given.seed), 1):
        hidden = model.model(input_ids=rows, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[trained[:, 1:]])
        loss = torch.nn.functional.cross_entropy(logits, rows[:, 1:][trained[:, 1:]])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scale in ((muon, 1.5), (adamw, 1.0)):
            for group in optimizer.param_groups:
                group["lr"] = scale * given.learning_rate * min(1.0, step / 50, 0.01 + (1 - progress) / 0.6)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds = time.monotonic() - started
        progress = max(step * given.batch_size / given.games, seconds / given.max_seconds)
        if step % 50 == 0:
            print(f"step {step}  {seconds:.0f} s  loss {sum(losses[-50:]) / 50:.4f}", flush=True)
        if progress >= 1:
            return


def main() -> None:
    """Parse the command line, train and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/letters"))
    parser.add_argument("--games", type=int, default=62_000)
    parser.add_argument("--batch-size", type=int, default=64, help="games of a step")
    parser.add_argument("--learning-rate", type=float, default=2.0e-3)
    parser.add_argument("--max-seconds", type=float, default=510.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--install", action="store_true", help="copy the model into the package at the end")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    train(model, tokenizer, given)
    model.to(torch.bfloat16).save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    if given.install:
        shutil.copytree(given.out, INSTALLED, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
