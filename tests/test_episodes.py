"""Training and evaluation advance the same episodes and judge them alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import scripted_rewards
from tieout.chat.template import Chat
from tieout.episodes import MAX_TURNS, judge, text_episodes, token_episodes
from tieout.evidence.evaluate import evaluate
from tieout.rewards.processes.workers import Workers
from tieout.rewards.scoring.runner import combine, score
from tieout.rewards.text.thinking import answer_text
from tieout.samplers import SamplingParams
from tieout.source import Source
from tieout.tasks import Task
from tieout.types import Completion, Prompt, Row

ROOMY = 100_000
PARAMS = SamplingParams(max_new_tokens=8, seed=5)


@dataclass
class Repeating:
    """Says the row's word (its prompt's last one) at every turn, as text or as tokens."""

    chat: Chat
    context: int = ROOMY
    params: list[SamplingParams] = field(default_factory=list)

    def load(self, learner: Any) -> None: ...

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        self.params.append(params)
        return [str(prompt[0]["content"]).split()[-1] for prompt in prompts]  # type: ignore[index]

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        self.params.append(params)
        return [[self._completion(self.chat.text(prompt))] * num_completions for prompt in prompts]

    def _completion(self, opening: str) -> Completion:
        text = next(word for word in (*WORDS, "long", "so") if f"Say {word}" in opening)
        tokens = [*self.chat.tokenizer.encode(text, add_special_tokens=False), self.chat.stop_tokens[0]]
        return Completion(tokens, [True] * len(tokens), [-0.5] * len(tokens), text)


def moody(row: Row) -> Generator[str, str, Any]:
    """Its end depends on the word that the row is about."""
    word = row["word"]
    if word == "never":
        return 1.0
    if word == "shut":
        raise OSError("the exchange is closed")
    said = yield f"Say {word}"
    if word == "crash":
        raise TimeoutError("no reply from the exchange")
    if word == "twice":
        said += yield "Again."
    while word in ("loop", "long"):
        yield "x" * 40 if word == "long" else "Again."
    return {"nan": float("nan"), "pass": None, "text": "fine"}.get(word, float(len(said)))


WORDS = ["right", "twice", "pass", "nan", "text", "crash", "shut", "never", "loop"]
ROWS = [{"word": word, "prompt": word} for word in WORDS]


@pytest.fixture
def chat(tiny_tokenizer: Any) -> Chat:
    return Chat(tiny_tokenizer)


def by_environment(**changes: Any) -> Task:
    return Task(**{"name": "moody", "rows": lambda split: ROWS, "environment": moody, **changes})


def vowels(completions: list[str], word: list[str], **_: Any) -> list[float]:
    return [sum(letter in "aeiou" for letter in text) + len(word[0]) / 100 for text in completions]


@pytest.mark.parametrize("scored_by", ["environment", "reward"])
@pytest.mark.parametrize("word", [*WORDS, "long"])
def test_training_and_evaluation_score_alike(chat: Chat, word: str, scored_by: Any) -> None:
    """Whatever an episode comes to, the same row has the same status and score in both."""
    rows = [{"word": word, "prompt": word}]
    task = by_environment(rows=lambda split: rows, reward=vowels, scored_by=scored_by)
    sampler = Repeating(chat, 150 if word == "long" else ROOMY)
    (case,) = evaluate(task, rows, sampler, PARAMS)
    source = Source(task, chat, sampler)
    groups = source.rollout(rows, 1, PARAMS)
    assert [group.scores for group in groups] == ([] if case.score is None else [[case.score]])
    status = "crashed" if word == "long" else case.status
    assert source.counts["completions"] == source.counts[status] == 1


def test_what_each_end_of_an_episode_is_worth(chat: Chat) -> None:
    cases = evaluate(by_environment(), ROWS, Repeating(chat), PARAMS)
    assert {case.completion or word: case.score for word, case in zip(WORDS, cases, strict=True)} == {
        "right": 5.0,
        "twice\n\ntwice": 10.0,
        "pass": None,
        "nan": None,
        "text": None,
        "crash": None,
        "shut": None,
        "never": None,
        "\n\n".join(["loop"] * MAX_TURNS): None,
    }
    reasons = {word: case.errors.get("score", "") for word, case in zip(WORDS, cases, strict=True)}
    assert reasons["right"] == reasons["twice"] == reasons["pass"] == ""
    for word, part in {
        "nan": "finite number",
        "text": "expected a number",
        "crash": "TimeoutError: no reply",
        "shut": "OSError: the exchange is closed",
        "never": "ended before the first turn",
        "loop": f"did not end within {MAX_TURNS} turns",
    }.items():
        assert part in reasons[word], word


def test_an_environment_is_told_of_a_thought_that_never_ended(chat: Chat) -> None:
    template, heard = chat.tokenizer.chat_template, list[str]()

    def listening(row: Row) -> Generator[str, str, Any]:
        heard.append((yield f"Say {row['word']}"))
        return float(bool(answer_text(heard[-1])))

    task = by_environment(environment=listening)
    try:
        chat.tokenizer.chat_template = template + "{% if add_generation_prompt %}<think>\n{% endif %}"
        (group,) = Source(task, chat, Repeating(chat)).rollout(ROWS[:1], 1, PARAMS)
        (case,) = evaluate(task, ROWS[:1], Repeating(chat), PARAMS)
    finally:
        chat.tokenizer.chat_template = template
    assert heard == ["<think>right"] * 2
    assert (group.scores, case.score) == ([0.0], 0.0)


def test_a_reward_may_count_the_tokens_of_an_episode(chat: Chat) -> None:
    """In training those that the policy sampled, not the environment's; in evaluation those of the text."""

    def count(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    rows = [{"word": "twice", "prompt": "twice"}]
    task = by_environment(rows=lambda split: rows, reward=count, scored_by="reward")
    sampler = Repeating(chat)
    (group,) = Source(task, chat, sampler).rollout(rows, 1, PARAMS)
    assert group.scores == [2.0 * len(sampler._completion("Say twice").tokens)]
    (case,) = evaluate(task, rows, sampler, PARAMS)
    assert case.score == len(chat.encode("twice\n\ntwice"))


def test_a_reward_may_read_an_episode_turn_by_turn(chat: Chat) -> None:
    """In training and in evaluation, whatever blank lines a turn holds; a worker is sent the turns, too."""
    rows = [{"word": "twice", "prompt": "twice"}]
    task = by_environment(rows=lambda split: rows, reward=scripted_rewards.roles, scored_by="reward")
    with Workers() as workers:
        for own in (None, workers):
            (group,) = Source(task, chat, Repeating(chat), workers=own).rollout(rows, 1, PARAMS)
            (case,) = evaluate(task, rows, Repeating(chat), PARAMS, workers=own)
            assert (group.scores, case.score) == ([212.0], 212.0)
    (alone,) = score(scripted_rewards.roles, ["an answer"], ["?"], {})
    assert alone.score == 2.0
    combined = combine({scripted_rewards.roles: 1.0})
    turns = [[{"role": "user", "content": ""}]]
    assert combined(["x"], completion_turns=turns) == [1.0]


def test_the_page_says_how_to_pay_for_single_turns(chat: Chat) -> None:
    """An environment of steps returns the sum of what it paid, and a reward of parts says what was paid for."""
    page = (Path(__file__).parents[1] / "docs" / "games.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    for code in (code for code in blocks if "= sft(" not in code):
        exec(compile(code, "games.md", "exec"), names)

    class Steps:
        """Pays 0.25 for each of three steps, and 1 more for the last one."""

        def __init__(self, row: Row) -> None:
            self.word, self.left = row["word"], 3

        def reset(self) -> str:
            return f"Say {self.word}"

        def step(self, said: str) -> tuple[str, float, bool]:
            self.left -= 1
            return "Again.", 0.25 + (self.left == 0), self.left == 0

    rows = [{"word": "right", "prompt": "right"}]
    task = by_environment(rows=lambda split: rows, environment=names["by_steps"](Steps))
    (group,) = Source(task, chat, Repeating(chat)).rollout(rows, 2, PARAMS)
    (case,) = evaluate(task, rows, Repeating(chat), PARAMS)
    assert (group.scores, case.score) == ([1.75, 1.75], 1.75)
    assert len(group.completions[0].turns or []) == 5

    task, row = names["by_parts"], names["ROWS"][0]
    row = {**row, "prompt": next(names["shop"](row))}  # as `load_task` fills it in
    said = {"What": f"LOOK {row['box']}", "Label": "no idea", "Write": "no idea"}

    class Playing(Repeating):
        def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
            return [said[str(prompt[-1]["content"]).split()[0].strip(":")] for prompt in prompts]  # type: ignore[index]

    for answer, score_of in (("no idea", 0.2), (row["price"], 1.0)):
        said["Label"] = answer
        (case,) = evaluate(task, [row], Playing(chat), PARAMS)
        assert case.score == pytest.approx(score_of)
        assert case.parts == pytest.approx({"right": 0.8 * (score_of == 1.0), "looked": 0.2})  # in points


def test_a_reward_that_scores_sees_everything_the_policy_said(chat: Chat) -> None:
    """The environment's own score is not used, and what goes wrong in it stays an error."""
    task = by_environment(reward=vowels, scored_by="reward")
    cases = evaluate(task, ROWS, Repeating(chat), PARAMS)
    scores = [case.score for case in cases]
    assert scores == [1.05, 4.05, 1.04, 1.03, 1.04, None, None, None, None]


def test_an_environment_without_end_stops_in_training_too(chat: Chat) -> None:
    source = Source(by_environment(), chat, Repeating(chat))
    assert source.rollout([ROWS[-1]], 2, PARAMS) == []
    assert source.counts == Counter(completions=2, errored=2, dropped_groups=1)
    assert len(source.sampler.params) == MAX_TURNS  # type: ignore[union-attr]


def test_episodes_that_did_not_open_leave_their_group(chat: Chat) -> None:
    opened = iter([False, True, True])

    def shaky(row: Row) -> Generator[str, str, float]:
        if not next(opened):
            raise OSError("no board")
        said = yield "Say so"
        return float(len(said))

    source = Source(by_environment(environment=shaky), chat, Repeating(chat))
    (group,) = source.rollout(ROWS[:1], 3, PARAMS)
    assert (group.prompt, group.scores) == (chat.prompt([{"role": "user", "content": "Say so"}]), [2.0, 2.0])
    assert source.counts == Counter(completions=3, errored=1, scored=2)


def test_each_turn_has_its_own_seed_in_both(chat: Chat) -> None:
    rows = [ROWS[0], ROWS[1]]
    texts, tokens = Repeating(chat), Repeating(chat)
    text_episodes(moody, rows, texts, PARAMS)
    token_episodes(by_environment(), chat, rows, 1, tokens, PARAMS)
    assert [p.seed for p in texts.params] == [p.seed for p in tokens.params] == [5, 5 + 7_919]
    assert [list(p.streams) for p in tokens.params] == [[0, 1], [1]]
    assert all(not p.streams for p in texts.params)


def test_outgrowing_the_context_ends_an_evaluation_as_a_wrong_answer(chat: Chat) -> None:
    rows = [{"word": "long", "prompt": "long"}, ROWS[1]]
    task = by_environment(rows=lambda split: rows)
    long, other = evaluate(task, rows, Repeating(chat, 150), PARAMS)
    assert (long.score, other.score) == (0.0, 10.0)
    assert "outgrew the model's context" in long.errors["score"]


def test_judging_no_episodes_asks_nobody() -> None:
    assert judge(by_environment(), []) == []


def test_a_task_with_two_scorers_says_which_counts() -> None:
    with pytest.raises(ValueError, match=r"both a reward and an environment.*scored_by="):
        by_environment(reward=vowels)
    assert by_environment().scorer == "environment"
    assert by_environment(reward=vowels, scored_by="reward").scorer == "reward"
    assert by_environment(reward=vowels, environment=None).scorer == "reward"
    assert by_environment(environment=None).scorer is None
    with pytest.raises(ValueError, match="scored by its reward, but has none"):
        by_environment(scored_by="reward")
    with pytest.raises(ValueError, match="both a reward and an environment"):
        replace(by_environment(), reward=vowels)
    with pytest.raises(ValueError, match="scored_by is 'gold'; expected reward or environment"):
        by_environment(scored_by="gold")
