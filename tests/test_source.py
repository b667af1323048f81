"""The source is its (seed, position); errors are never numbers; episodes keep tokens verbatim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from random_groups import flat, make_learner
from tieout.chat.template import Chat, ChatError
from tieout.errors import InputError, TooManyErrors
from tieout.learner import Learner
from tieout.rewards.library.exact import exact
from tieout.rewards.processes.workers import Workers, start_workers
from tieout.rewards.scoring.runner import combine
from tieout.rewards.text.thinking import answer_text
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.training.alarms import format_lost, gold_against_proxy, texts
from tieout.training.monitors import scores
from tieout.types import Completion, Group, Row
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]
STOP = 1  # <|end|>


@dataclass
class Scripted:
    """A PolicySampler that says what it is told, turn by turn; each token's log-probability is its own number."""

    chat: Chat
    says: Callable[[Sequence[int], int], str]
    """(prompt tokens, which request) -> text; a trailing `…` cuts it off before the end of the turn."""
    params: list[SamplingParams] = field(default_factory=list)
    context: int = 4096

    def load(self, learner: Any) -> None: ...

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        self.params.append(params)
        result = []
        for i, prompt in enumerate(prompts):
            texts = [self.says(prompt, i * num_completions + k) for k in range(num_completions)]
            result.append([self._completion(text) for text in texts])
        return result

    def _completion(self, text: str) -> Completion:
        ended = not text.endswith("…")
        text = text.removesuffix("…")
        tokens = self.chat.tokenizer.encode(text, add_special_tokens=False) + [STOP] * ended
        logprobs = [-0.001 * (1 + t) for t in tokens]
        return Completion(tokens, [True] * len(tokens), logprobs, text, "stop" if ended else "length")


@pytest.fixture
def chat(tiny_tokenizer: Any) -> Chat:
    return Chat(tiny_tokenizer)


def numbered(prompt: Sequence[int], request: int) -> str:
    return f"say {request}"


def scripted(chat: Chat, reward: Any = None, says: Any = numbered, **changes: Any) -> Source:
    task = make_task(**({"reward": reward} if reward else {}), **changes.pop("task", {}))
    return Source(task, chat, Scripted(chat, says), **changes)


def first(groups: Iterator[list[Group]]) -> list[Group]:
    return next(groups)


# ---------------------------------------------------------------- rows and their order


def consumed(source: Source, batches: int, size: int = 4) -> list[str]:
    groups = source.demonstrations(size)
    return [g.row["answer"] for _ in range(batches) for g in next(groups)]


def test_every_pass_sees_every_row_once_in_an_order_of_its_own(chat: Chat) -> None:
    source = Source(make_task(), chat)
    seen = consumed(source, 3, len(ROWS))
    passes = [seen[i : i + len(ROWS)] for i in range(0, len(seen), len(ROWS))]
    assert all(sorted(p) == sorted(r["answer"] for r in ROWS) for p in passes)
    assert len({tuple(p) for p in passes}) == 3
    assert source.position == 3 * len(ROWS)


def test_batches_run_across_the_end_of_a_pass(chat: Chat) -> None:
    counts = Counter(consumed(Source(make_task(), chat), 11))
    assert set(counts.values()) == {4}


def test_seed_and_position_decide_what_comes_next(chat: Chat) -> None:
    whole = consumed(Source(make_task(), chat, seed=5), 8)
    for position in (4, 8, 12, 20):
        resumed = consumed(Source(make_task(), chat, seed=5, position=position), 3)
        assert resumed == whole[position : position + 12]
    assert consumed(Source(make_task(), chat, seed=6), 8) != whole


def test_a_split_without_rows_is_refused(chat: Chat) -> None:
    with pytest.raises(ValueError, match=r"task 'sums' has no rows in split 'calibration'"):
        Source(make_task(rows=lambda split: ROWS if split == "train" else []), chat, split="calibration")


def test_demonstrations_and_preferences_hold_what_the_data_says(chat: Chat) -> None:
    source = Source(make_task(), chat)
    for group in first(source.demonstrations(6)):
        (completion,) = group.completions
        assert group.scores is None
        assert group.prompt == chat.prompt(group.row["prompt"])
        assert chat.text(completion.tokens) == completion.text == group.row["completion"]
        assert completion.tokens[-1] == STOP  # or the policy never learns to stop
        assert all(completion.mask)
    for group in first(source.preferences(6)):
        assert [c.text for c in group.completions] == [group.row["chosen"], group.row["rejected"]]
        assert (group.scores or [])[0] > (group.scores or [])[1]
        assert all(c.tokens[-1] == STOP for c in group.completions)


# ---------------------------------------------------------------- rollouts and rewards


def test_rollouts_are_scored_by_their_own_row(chat: Chat) -> None:
    def reward(completions: list[str], prompts: list[Any], answer: list[str], **_: Any) -> list[float]:
        assert len(completions) == len(prompts) == len(answer) == 3
        assert len({str(p) for p in prompts}) == 1
        assert prompts[0][0]["content"].startswith("Add")
        return [float(answer[0]) + i for i in range(3)]

    groups = first(scripted(chat, reward).rollouts(4, 3))
    assert len(groups) == 4
    for group in groups:
        assert group.scores == [float(group.row["answer"]) + i for i in range(3)]
        assert group.prompt == chat.prompt(group.row["prompt"])
    assert [c.text for g in groups for c in g.completions] == [f"say {i}" for i in range(12)]


def test_the_random_stream_of_a_rollout_follows_from_seed_and_position(chat: Chat) -> None:
    def seeds(seed: int, position: int, batches: int) -> list[int]:
        source = scripted(chat, seed=seed, position=position)
        rollouts = source.rollouts(3, 2)
        for _ in range(batches):
            next(rollouts)
        return [p.seed for p in source.sampler.params]  # type: ignore[union-attr]

    whole = seeds(1, 0, 4)
    assert len(set(whole)) == 4
    assert seeds(1, 6, 2) == whole[2:]
    assert not set(seeds(2, 0, 4)) & set(whole)


def test_rollout_parameters_reach_the_sampler(chat: Chat) -> None:
    source = scripted(chat)
    first(source.rollouts(2, 2, temperature=0.7, max_new_tokens=9))
    (params,) = source.sampler.params  # type: ignore[union-attr]
    assert (params.temperature, params.max_new_tokens, params.top_p) == (0.7, 9, 1.0)


def test_errored_and_abstained_completions_leave_their_group(chat: Chat) -> None:
    """Of request numbers 0 to 3 in a group: 1 abstains, 2 is NaN."""

    def reward(completions: list[str], **_: Any) -> list[Any]:
        numbers = [int(c.split()[1]) for c in completions]
        return [None if n % 4 == 1 else float("nan") if n % 4 == 2 and n < 12 else float(n) for n in numbers]

    source = scripted(chat, reward)
    groups = first(source.rollouts(8, 4))
    assert [len(g.completions) for g in groups] == [2, 2, 2, 3, 3, 3, 3, 3]
    for i, group in enumerate(groups):
        assert [c.text for c in group.completions] == [f"say {int(s)}" for s in group.scores or []]
        assert all(n // 4 == i for n in map(int, group.scores or []))
    assert source.counts == Counter(completions=32, scored=21, errored=3, abstained=8)


def test_a_reward_that_only_abstains_is_said(chat: Chat) -> None:
    source = scripted(chat, lambda completions, **_: [None] * len(completions))
    with pytest.raises(InputError, match=r"the reward abstained \(it gave None\) on all \d+ completions"):
        first(source.rollouts(2, 2))


def test_groups_with_fewer_than_two_scores_are_dropped_and_replaced(chat: Chat) -> None:
    asked: list[str] = []

    def reward(completions: list[str], answer: list[str], **_: Any) -> list[float | None]:
        asked.append(answer[0])
        return [1.0, None, None] if int(answer[0]) % 4 else [1.0, 0.0, None]

    source = scripted(chat, reward)
    groups = first(source.rollouts(3, 3))
    assert len(groups) == 3
    assert all(len(g.completions) == 2 for g in groups)
    assert len(asked) == source.position > 3
    assert [g.row["answer"] for g in groups] == [a for a in asked if int(a) % 4 == 0][:3]


def test_a_completion_that_crashes_the_reward_is_a_wrong_answer_and_does_not_leave(chat: Chat) -> None:
    def reward(completions: list[str], **_: Any) -> list[float]:
        return [1.0 / (int(c.split()[1]) % 4) for c in completions]  # crashes on every fourth

    source = scripted(chat, reward)
    groups = first(source.rollouts(4, 4))
    assert [g.scores for g in groups] == [[0.0, 1.0, 1 / 2, 1 / 3]] * 4
    assert source.counts == Counter(completions=16, scored=12, crashed=4)


def test_parts_of_a_combined_reward_are_logged_each(chat: Chat) -> None:
    def right(completions: list[str], **_: Any) -> list[float]:
        return [float(int(c.split()[1]) % 2) for c in completions]

    def short(completions: list[str], **_: Any) -> list[float | None]:
        return [0.5 if int(c.split()[1]) % 4 else None for c in completions]

    groups = first(scripted(chat, combine({right: 1.0, short: 0.2}, missing="rescale")).rollouts(2, 4))
    assert groups[0].columns == {"reward/right": [0.0, 1.0, 0.0, 1.0], "reward/short": [None, 0.5, 0.5, 0.5]}
    metrics: dict[str, float] = {}
    scores(1, groups, metrics)
    assert (metrics["reward/right"], metrics["reward/short"]) == (0.5, 0.5)


def test_groups_are_scored_in_worker_processes(chat: Chat) -> None:
    with start_workers(exact) or Workers() as workers:
        groups = first(
            scripted(chat, exact, workers=workers, says=lambda p, r: "2" if r % 2 else "x").rollouts(3, 2)
        )
    assert all(g.scores == [0.0, float(g.row["answer"] == "2")] for g in groups)


def test_keep_chooses_groups(chat: Chat) -> None:
    source = scripted(chat)
    groups = first(source.rollouts(3, 2, keep=lambda group: int(group.row["answer"]) > 20))
    assert len(groups) == 3
    assert all(int(g.row["answer"]) > 20 for g in groups)
    with pytest.raises(ValueError, match="a pass over all rows gave no group worth keeping"):
        first(scripted(chat).rollouts(3, 2, keep=lambda group: False))


def failing(share: float) -> Callable[..., list[float]]:
    def reward(completions: list[str], **_: Any) -> list[float]:
        numbers = [int(c.split()[1]) for c in completions]
        return [float("inf") if (n * 0.61803) % 1 < share else float(n) for n in numbers]

    return reward


def test_too_many_errors_stop_the_run_and_a_few_do_not(chat: Chat) -> None:
    groups = first(scripted(chat, failing(0.15)).rollouts(8, 8))
    assert sum(len(g.completions) for g in groups) < 64
    with pytest.raises(
        TooManyErrors, match=r"task 'sums' failed on \d+ of 64 completions; the limit is 20%.*inf"
    ):
        first(scripted(chat, failing(0.3)).rollouts(8, 8))
    first(scripted(chat, failing(0.3), error_limit=0.5).rollouts(8, 8))


def test_the_share_is_of_the_whole_batch_wherever_the_errors_stand(chat: Chat) -> None:
    calls = []

    def early(completions: list[str], **_: Any) -> list[float]:
        calls.append(1)
        return [float("nan") if len(calls) == 1 else 1.0] * 8

    groups = first(scripted(chat, early).rollouts(8, 8))
    assert len(groups) == 8  # one more row replaced the group that failed
    assert all(len(g.completions) == 8 for g in groups)


def test_a_reward_that_always_raises_stops_small_batches_too(chat: Chat) -> None:
    def broken(completions: list[str], **_: Any) -> list[float]:
        raise ConnectionError("the judge is down")

    with pytest.raises(TooManyErrors, match="the judge is down"):
        first(scripted(chat, broken).rollouts(1, 2))


def test_what_rollouts_need_is_said(chat: Chat) -> None:
    with pytest.raises(ValueError, match=r"task 'sums' has neither a reward nor an environment"):
        first(scripted(chat, task={"reward": None}).rollouts(2, 2))
    with pytest.raises(ValueError, match="rollouts need a sampler"):
        first(Source(make_task(), chat).rollouts(2, 2))


# ---------------------------------------------------------------- episodes


def guess(row: Row) -> Generator[str, str, float | None]:
    """Up to three turns; the policy must say `right`."""
    text = yield f"Guess {row['answer']}."
    for turn in range(2):
        if text == "right":
            return 1.0 - 0.25 * turn
        text = yield f"No, {text!r} is wrong."
    return None if text == "pass" else 0.0


def talk(prompt: Sequence[int], request: int) -> str:
    return ["right", "left", "up…", "pass"][request % 4]


def test_an_episode_keeps_sampled_tokens_verbatim_and_masks_the_replies(chat: Chat) -> None:
    """The tokens are those that the template renders for the conversation, and True exactly where the policy wrote."""

    def says(prompt: Sequence[int], request: int) -> str:
        return f"try {len(prompt) % 7}"

    source = scripted(chat, says=says, task={"reward": None, "environment": guess})
    for group in first(source.rollouts(2, 2)):
        for completion in group.completions:
            said = [[]]
            for token, own in zip(completion.tokens, completion.mask, strict=True):
                if own:
                    said[-1].append(token)
                elif said[-1]:
                    said.append([])
            texts = [chat.text(s) for s in said]
            assert len(texts) == 3
            assert all(t.startswith("try") for t in texts)
            messages = [{"role": "user", "content": f"Guess {group.row['answer']}."}]
            for text in texts[:-1]:
                messages += [
                    {"role": "assistant", "content": text},
                    {"role": "user", "content": f"No, {text!r} is wrong."},
                ]
            assert group.prompt == chat.prompt(messages[:1])
            last = [*chat.tokenizer.encode(texts[-1], add_special_tokens=False), STOP]
            assert group.prompt + completion.tokens == chat.prompt(messages) + last
            expected = [-0.001 * (1 + t) * m for t, m in zip(completion.tokens, completion.mask, strict=True)]
            assert completion.logprobs == expected
            assert completion.text == texts[-1]


def test_plays_end_at_their_own_turn_and_abstain_with_none(chat: Chat) -> None:
    source = scripted(chat, says=talk, task={"reward": None, "environment": guess})

    def by_text(prompt: Sequence[int], request: int) -> str:
        opening = chat.text(prompt)
        return "right" if request == 0 or "wrong" in opening else "left"

    source.sampler.says = by_text  # type: ignore[union-attr]
    (group,) = first(source.rollouts(1, 3))
    assert group.scores == [1.0, 0.75, 0.75]
    assert [len(c.tokens) for c in group.completions] == sorted(len(c.tokens) for c in group.completions)
    source = scripted(
        chat, says=lambda p, r: "pass" if r == 0 else "left", task={"reward": None, "environment": guess}
    )
    (group,) = first(source.rollouts(1, 3))
    assert group.scores == [0.0, 0.0]
    assert source.counts == Counter(completions=3, scored=2, abstained=1)


def test_a_play_draws_from_its_own_streams_on_whichever_rank_and_whoever_still_plays(chat: Chat) -> None:
    def says(prompt: Sequence[int], request: int) -> str:
        return "right" if "Guess 3" in chat.text(prompt) else "left"

    source = scripted(chat, says=says, task={"reward": None, "environment": guess})
    rows = [{"prompt": "", "answer": answer} for answer in (3, 4, 5)]
    source._sampled_groups(rows, 2, SamplingParams(seed=7), scored=True)
    whole = [list(p.streams) for p in source.sampler.params]  # type: ignore[union-attr]
    assert whole == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [2, 3, 4, 5]]
    source.sampler.params.clear()  # type: ignore[union-attr]
    source._sampled_groups(rows[1:], 2, SamplingParams(seed=7, streams=range(1, 3)), scored=True)
    assert [list(p.streams) for p in source.sampler.params] == [[2, 3, 4, 5]] * 3  # type: ignore[union-attr]


def test_a_play_that_outgrows_the_context_ends_as_a_wrong_answer_and_the_others_go_on(chat: Chat) -> None:
    def says(prompt: Sequence[int], request: int) -> str:
        return "left" * 20 if request == 0 and "wrong" not in chat.text(prompt) else "left"

    source = scripted(chat, says=says, task={"reward": None, "environment": guess})
    opening = len(chat.prompt([{"role": "user", "content": "Guess 10."}]))
    source.sampler.context = opening + 120 + 8  # type: ignore[union-attr]
    (group,) = first(source.rollouts(1, 3, max_new_tokens=8))
    assert group.scores == [0.0, 0.0, 0.0]
    assert [c.finish_reason for c in group.completions] == ["length", "stop", "stop"]
    assert source.counts == Counter(completions=3, crashed=1, scored=2)
    assert group.completions[0].text == "left" * 20


def test_outgrowing_the_context_pays_no_more_than_the_worst_of_the_group(chat: Chat) -> None:
    def stubborn(row: Row) -> Generator[str, str, float]:
        try:
            text = yield "Go on."
            while text != "stop":
                text = yield "More."
        except GeneratorExit:
            raise OSError("the board cannot be closed") from None
        return -1.0

    source = scripted(
        chat,
        says=lambda p, r: "x" * 30 if r == 0 else "stop",
        task={"reward": None, "environment": stubborn},
    )
    source.sampler.context = 90  # type: ignore[union-attr]
    (group,) = first(source.rollouts(1, 2, max_new_tokens=8))
    assert group.scores == [-1.0, -1.0]


def test_a_turn_that_was_cut_off_is_closed_before_the_reply(chat: Chat) -> None:
    """Its end token was not sampled: it belongs to the environment's tokens, which are not trained."""
    source = scripted(chat, says=lambda p, r: "up…", task={"reward": None, "environment": guess})
    (group,) = first(source.rollouts(1, 2))
    completion = group.completions[0]
    sampled = [t for t, own in zip(completion.tokens, completion.mask, strict=True) if own]
    assert STOP not in sampled
    ended = [
        {"role": "user", "content": f"Guess {group.row['answer']}."},
        {"role": "assistant", "content": "up"},
        {"role": "user", "content": "No, 'up' is wrong."},
        {"role": "assistant", "content": "up"},
        {"role": "user", "content": "No, 'up' is wrong."},
    ]
    last = chat.tokenizer.encode("up", add_special_tokens=False)
    assert group.prompt + completion.tokens == chat.prompt(ended) + last
    assert completion.finish_reason == "length"


def test_an_environment_that_fails_is_an_error_not_a_score(chat: Chat) -> None:
    def flaky(row: Row) -> Generator[str, str, float]:
        text = yield "Begin."
        if text.endswith("1"):
            raise TimeoutError("no reply from the exchange")
        return float("nan") if text.endswith("2") else 0.5

    source = scripted(chat, task={"reward": None, "environment": flaky})
    (group,) = first(source.rollouts(1, 5))
    assert [c.text for c in group.completions] == ["say 0", "say 3", "say 4"]
    assert source.counts == Counter(completions=5, scored=3, errored=2)

    def down(row: Row) -> Generator[str, str, float]:
        yield "Begin."
        raise TimeoutError("no reply from the exchange")

    with pytest.raises(TooManyErrors, match="no reply from the exchange"):
        first(scripted(chat, task={"reward": None, "environment": down}).rollouts(4, 4))


def test_small_batches_are_judged_together(chat: Chat) -> None:
    batches = scripted(chat, failing(0.5)).rollouts(1, 4)
    with pytest.raises(
        TooManyErrors, match=r"failed on \d+ of \d+ completions.*repeat the command to resume"
    ):
        list(islice(batches, 16))


def test_plays_of_one_row_must_open_alike(chat: Chat) -> None:
    count = iter(range(100))

    def dealt(row: Row) -> Generator[str, str, float]:
        yield f"Your card is {next(count)}."
        return 1.0

    with pytest.raises(ValueError, match="must follow from the row"):
        first(scripted(chat, task={"reward": None, "environment": dealt}).rollouts(1, 2))


def test_a_sampler_without_log_probabilities_cannot_play(chat: Chat) -> None:
    class Mute(Scripted):
        def _completion(self, text: str) -> Completion:
            return Completion([5, STOP], [True, True], None, text)

    source = Source(make_task(reward=None, environment=guess), chat, Mute(chat, talk))
    with pytest.raises(ValueError, match="no log-probabilities"):
        first(source.rollouts(1, 2))


def test_a_template_that_rewrites_history_is_refused(new_tokenizer: Any) -> None:
    """Earlier assistant turns lose what they said: the policy would not see again what it wrote."""
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>"
        "{{ m['content'] if m['role'] == 'user' or loop.last else '' }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    chat = Chat(new_tokenizer(chat_template=template))
    with pytest.raises(ChatError, match="rewrites history"):
        first(scripted(chat, says=talk, task={"reward": None, "environment": guess}).rollouts(1, 4))


def test_the_learner_agrees_with_the_sampler_on_every_trained_token_of_an_episode(
    tiny_model: ModelFolder,
) -> None:
    """Three turns, really sampled: one forward over the whole play gives the log-probabilities of each turn."""
    learner: Learner = make_learner(tiny_model("llama"))
    source = Source(
        make_task(reward=None, environment=guess), learner.model.chat, LocalSampler(learner.model), seed=2
    )
    groups = first(source.rollouts(2, 3, max_new_tokens=7))
    learned, sampled, trained = [], [], 0
    for group, rows in zip(groups, learner.logprobs(groups), strict=True):
        for completion, logprobs in zip(group.completions, rows, strict=True):
            assert not all(completion.mask)
            for own, a, b in zip(completion.mask, logprobs, completion.logprobs or [], strict=True):
                trained += own
                learned.append(a * own)
                sampled.append(b)
    assert trained > 50
    assert (flat(learned) - flat(sampled)).abs().max() < 1e-5


# ---------------------------------------------------------------- prompts that open a tag


def test_a_thought_that_the_prompt_opened_and_nothing_closed_is_no_answer(chat: Chat) -> None:
    template = chat.tokenizer.chat_template
    says = ["it is <answer>", "so</think>yes", "<answer>yes", "yes"]
    seen: list[list[str]] = []

    def reward(completions: Sequence[str], **_: Any) -> list[float]:
        seen.append(list(completions))
        return [float(bool(answer_text(text))) for text in completions]

    def run() -> list[Group]:
        seen.clear()
        source = scripted(chat, reward, lambda prompt, k: says[k % 4])
        return first(source.rollouts(1, 4))

    (plain,) = run()
    assert (plain.scores, seen) == ([1.0] * 4, [says])
    try:
        chat.tokenizer.chat_template = template + "{% if add_generation_prompt %}<think>\n{% endif %}"
        (group,) = run()
    finally:
        chat.tokenizer.chat_template = template
    assert group.scores == [0.0, 1.0, 0.0, 0.0]
    assert seen == [["<think>it is <answer>", "so</think>yes", "<think><answer>yes", "<think>yes"]]
    assert [c.text for c in group.completions] == says, "what is trained, and written to files, is as sampled"
    # Nor is it for what watches the run: metrics of the samples, a gold that is not trained on, the valid forms.
    gold, shown = [], {"score": 0.0}
    texts(1, [group], shown)
    gold_against_proxy(lambda completions, **_: [gold.append(t) or 0.0 for t in completions])(
        1, [group], shown
    )
    format_lost(reward)(1, [group], shown)
    assert (shown["empty"], shown["valid"], gold) == (0.75, 0.25, seen[0])
