"""Train `tieout-letters` from nothing: a tiny Llama whose tokens are letters, on games of the task `wordle`.

    python scripts/build_letters.py --out runs/letters --install

The games are of two players: one guesses a word that agrees with all marks so far, one any word or one that agrees with
the last marks. Whoever guesses, what is trained at each letter is how the words that agree with all marks go on. No
word of a held-out split is ever the word to be found; all are guessed. Seeded. See docs/stories/wordle.md.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models
from torch.optim import _muon
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tieout.tasks.wordle import NO_GUESS, NO_WORD, NUM_GUESSES, SYSTEM
from tieout.tasks.wordle_words import marks_of, solutions, words_of

INSTALLED = Path(__file__).parent.parent / "src" / "tieout" / "embedded" / "tieout_letters"
SPECIAL = ("<|pad|>", "<|end|>", "<|unknown|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARKS = tuple(f" {sign}{letter}" for sign in "-+" for letter in LETTERS) + tuple(
    f" {a}" for a in LETTERS.upper()
)
"""A letter with its mark: not in the word, at another place, in the right place. `marks_of` numbers them so, too."""
TURNS = tuple(f"\nGuess {i} of {NUM_GUESSES}:" for i in range(1, NUM_GUESSES + 1))
SENTENCES = (SYSTEM, NO_GUESS, NO_WORD, *TURNS, ": ", "Marks:")
"""What the game says in the same words every time: a token each."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every printable character, for every sentence of the game, and for every letter with its mark."""
    characters = ["\n", *map(chr, range(32, 127))]
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *characters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<|unknown|>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*SENTENCES, *MARKS)])
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
    """0.8 million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=8,
        head_dim=16,
        initializer_range=0.05,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


# --- games --------------------------------------------------------------------------------------------------

_ALL = len(solutions())
_SPELT = np.array([[LETTERS.index(letter) for letter in word] for word in solutions()])
_NEXT = np.eye(26, dtype=np.float32)[_SPELT]  # [words, places, letters]


class Games:
    """Batches of games, of six turns each: what comes after the right guess is not trained."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        ids = tokenizer.get_vocab()
        self.chance = np.random.default_rng(seed)
        self.codes = np.stack([marks_of(word) for word in solutions()])  # [guess, word]
        self.words = np.array([solutions().index(word) for word in words_of("train")])
        self.letters = np.array([ids[letter] for letter in LETTERS])
        self.marked = np.array([ids[mark] for mark in MARKS]).reshape(3, 26)
        self.end, asks = ids["<|end|>"], [ids["<|end|>"], ids["<|assistant|>"]]
        self.opening = [ids["<|user|>"], ids[SYSTEM], ids[TURNS[0]], *asks]
        self.replied = [self.end, ids["<|user|>"], ids["Marks:"]]
        self.goes_on = [[ids[turn], *asks] for turn in TURNS[1:]]

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, T] tokens, [P] columns of which the next token is trained, [B, P] whether it is, and [B, P, 27] how often
        each letter comes next, and the end of the turn.
        """
        word, game = self.chance.choice(self.words, size), np.arange(size)
        left = last = np.ones((size, _ALL), bool)
        open_, rows, length = np.ones(size, bool), [np.tile(self.opening, (size, 1))], len(self.opening)
        columns, trained, shares = list[int](), list[np.ndarray](), list[np.ndarray]()
        for turn in range(NUM_GUESSES):
            loose = self.chance.random((size, 1)) < 0.4
            may = np.where(loose, last | (self.chance.random((size, 1)) < 0.5), left)
            # a game that ends soon trains little: the word itself is rather guessed late
            may[game, word] &= (self.chance.random(size) < turn / 4) | (may.sum(1) == 1)
            guess = (may * (0.01 + self.chance.random(may.shape, np.float32))).argmax(1)
            agree = left.astype(np.float32)
            for place in range(5):
                share = np.pad(agree @ _NEXT[:, place], ((0, 0), (0, 1)))
                total = share.sum(1, keepdims=True)
                columns.append(length - 1 + place)
                trained.append(open_ & (total[:, 0] > 0))
                shares.append(share / np.maximum(total, 1))
                agree *= _SPELT[:, place] == _SPELT[guess, place][:, None]
            columns.append(length + 4)
            trained.append(open_)
            shares.append(np.tile(np.eye(27, dtype=np.float32)[26], (size, 1)))
            code = self.codes[guess, word]
            rows.append(self.letters[_SPELT[guess]])
            if turn < NUM_GUESSES - 1:
                kinds = code[:, None] // 3 ** np.arange(5) % 3
                marks = self.marked[kinds, _SPELT[guess]]
                rows += [np.tile(self.replied, (size, 1)), marks, np.tile(self.goes_on[turn], (size, 1))]
            length = sum(part.shape[1] for part in rows)
            open_ = open_ & (guess != word)
            last = self.codes[guess] == code[:, None]
            left = left & last
        parts = np.concatenate(rows, 1), np.array(columns), np.stack(trained, 1), np.stack(shares, 1)
        tokens, at, which, share = map(torch.from_numpy, parts)
        return tokens, at, which, share


# --- training -----------------------------------------------------------------------------------------------


def orthogonal(
    gradient: torch.Tensor, weights: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Muon's iteration in fp32; torch's own is in bf16, ten times slower where the processor has none."""
    turned = gradient.T if gradient.shape[0] > gradient.shape[1] else gradient
    found = turned / turned.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = weights[0] * found + (weights[1] * gram + weights[2] * gram @ gram) @ found
    return found.T if turned is not gradient else found


def hidden(model: LlamaForCausalLM, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """[B, P, D] final hidden states of these columns; the last layer's matrices are not applied to the others."""
    body, found = model.model, model.model.embed_tokens(rows)
    turned = body.rotary_emb(found, torch.arange(rows.shape[1])[None])
    for layer in body.layers[:-1]:
        found = layer(found, position_embeddings=turned, attention_mask=None)
    last = body.layers[-1]
    seen, _ = last.self_attn(last.input_layernorm(found), position_embeddings=turned, attention_mask=None)
    found = (found + seen)[:, columns]
    return body.norm(found + last.mlp(last.post_attention_layernorm(found)))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, given: argparse.Namespace) -> None:
    """Muon for matrices, AdamW for the rest; the rate falls to 0 over the last two fifths of the games."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed_tokens" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    _muon._zeropower_via_newtonschulz = orthogonal
    muon = torch.optim.Muon(
        matrices, lr=given.learning_rate * 1.5, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=given.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    games, said = Games(tokenizer, given.seed), [*LETTERS, "<|end|>"]
    letters = torch.tensor(tokenizer.convert_tokens_to_ids(said))
    started, step, lost = time.monotonic(), 0, list[float]()
    while step * given.batch_size < given.games:
        step += 1
        rows, columns, trained, shares = games.batch(given.batch_size)
        logs = model.lm_head(hidden(model, rows, columns)[trained]).log_softmax(-1)[:, letters]
        wanted = shares[trained]
        loss = (torch.xlogy(wanted, wanted) - wanted * logs).sum(-1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rest = 1 - step * given.batch_size / given.games
        for optimizer, scale in ((muon, 1.5), (adamw, 1.0)):
            for group in optimizer.param_groups:
                group["lr"] = scale * given.learning_rate * min(1.0, step / 50, max(rest, 0.0) / 0.4)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        lost.append(loss.item())
        if step % 50 == 0:
            mean = sum(lost[-50:]) / 50
            print(
                f"step {step}  {time.monotonic() - started:.0f} s  {mean:.4f} nats from the words", flush=True
            )
            model.save_pretrained(given.out)


def main() -> None:
    """Parse the command line, train and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/letters"))
    parser.add_argument("--games", type=int, default=42_000)
    parser.add_argument("--batch-size", type=int, default=32, help="games of a step")
    parser.add_argument("--learning-rate", type=float, default=3.0e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--install", action="store_true", help="copy the model into the package at the end")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    tokenizer.save_pretrained(given.out)
    train(model, tokenizer, given)
    model.to(torch.bfloat16).save_pretrained(given.out)
    if given.install:
        shutil.copytree(given.out, INSTALLED, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
