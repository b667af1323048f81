"""Rows + Sampler + reward -> Cases: what one model wrote for every row, and what each was worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..chat.template import Chat
from ..episodes import Episode, KnowsContext, as_read, judge, text_episodes
from ..errors import InputError
from ..rewards.processes.workers import Workers
from ..rewards.scoring.runner import Call, Combined, Outcome, check_reward, score_groups
from ..rewards.text.thinking import begun, opened_in
from ..rows.checks import with_prompts
from ..rows.messages import prompt_text
from ..samplers import Sampler, SamplingParams
from ..samplers.best_of_n import Draw
from ..storage.atomic import fingerprint
from ..storage.jsonl import read_jsonl, stored, write_jsonl
from ..tasks import Environment, Task
from ..types import Answer, Completion, Prompt, Reward, Row
from .draws import read_draws, write_draws
from .sampled import Turn, read_turns, turns_of, write_turns

PROGRAMMATIC = "programmatic"
HUMAN = "human"
CONTROLS = "negative_controls"
CONSISTENCY = "consistency"
"""Of cases that ask a row of the programmatic track again: no figures of their own, see `evidence.consistency`."""
TRACKS = (PROGRAMMATIC, HUMAN, CONTROLS)
"""The tracks that the gate judges. Cases may name others, which are reported only."""

OWN = ("completion", "score", "metrics", "parts", "errors", "turns", "replies")
"""What `cases.jsonl` has of each model; `parts` only where the reward has some, `turns` and `replies` with an
environment."""
SOME = ("parts", "turns", "replies")

Episodes = Callable[[Environment, Sequence[Row], Sampler, SamplingParams], Sequence[Episode]]
"""What gives an episode per row, each to its end."""

Progress = Callable[[int, int], None]
"""Called with the number of cases done and the number of all."""


@dataclass(frozen=True)
class Case:
    """One row, one model: what it wrote and what that was worth. Models are compared on cases of one id."""

    id: str
    track: str
    slice: str
    """A part of the track with a figure of its own: the split, or a skill."""
    prompt: Prompt
    completion: str
    score: float | None = None
    """None: the reward abstained or errored. A completion that made it fail has what a wrong answer gets."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The task's further numbers; one that abstained or errored is missing."""
    errors: dict[str, str] = field(default_factory=dict)
    """What errored (`score`, the name of a metric, `part NAME`) and why; also where there is a score all the same."""
    cluster: str = ""
    """What this case shares with others, such as its prompt, or the document it asks about; empty: it stands alone."""
    parts: dict[str, float] = field(default_factory=dict)
    """Points of the score that each part of the reward gave; one that abstained or errored is missing."""
    usage: dict[str, float] = field(default_factory=dict, compare=False)
    """`prompt_tokens`, `tokens` and `seconds` that the answer took, and `cut_off`, 1 if it was, where the sampler says
    how it ended; empty where the sampler does not count."""
    turns: list[str] = field(default_factory=list)
    """With an environment: what the model said turn by turn; together the completion."""
    replies: list[str] = field(default_factory=list)
    """What the environment replied to each turn but the one that ended the episode."""
    sampled: tuple[Turn, ...] = field(default=(), compare=False)
    """Tokens and log-probabilities, a turn after the other; empty where the sampler does not know them."""
    draw: Draw | None = field(default=None, compare=False)
    """All samples of which the completion was chosen; None: there was one."""

    @property
    def status(self) -> str:
        """`scored`, `abstained` or `errored`: one that crashed the reward is scored, as a wrong answer is."""
        return "scored" if self.score is not None else "errored" if "score" in self.errors else "abstained"

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        """(who, text) of an episode after its prompt, turn by turn; empty for a single answer."""
        said, replied = (
            [("model", text) for text in self.turns],
            [("environment", text) for text in self.replies],
        )
        both = [turn for pair in zip_longest(said, replied) for turn in pair if turn is not None]
        return both if self.replies else []


def part_key(name: str) -> str:
    """Of a part of the reward among `errors`; a metric may have the same name."""
    return f"part {name}"


def evaluate(
    task: Task,
    rows: Sequence[Row],
    sampler: Sampler,
    params: SamplingParams | None = None,
    *,
    track: str = PROGRAMMATIC,
    slice: str | Callable[[Row], str] = "test",
    cluster: Callable[[Row], str] | None = None,
    batch_size: int = 64,
    workers: Workers | None = None,
    progress: Progress | None = None,
    episodes: Episodes = text_episodes,
    ids: Sequence[str] = (),
) -> list[Case]:
    """Ask the sampler every row's prompt and score what it writes. Greedy unless `params` says otherwise.

    With an environment, there is an episode per row; metrics, and a reward that scores it, see everything that the
    model said; `episodes` may take them from a record instead. Only `workers` can stop a reward that hangs.
    A case is named `task/slice/id`, where id is the row's own or its position, unless `ids` name them. Copies of a
    prompt share a cluster where `cluster` names none. Errors stay errors: they have no score, unless the completion
    itself made the reward fail. That counts as in training, as a wrong answer (`Outcome.worth`), or crashing the reward
    would be a way to skip hard rows; the error is kept.

    Raises:
        InputError: before anything is generated, if nothing scores, or a reward asks for a column that rows lack; as
            soon as the parts of a reward do not add up to it.
    """
    if task.scorer is None:
        raise InputError(f"task {task.name!r} has neither a reward nor an environment to score with")
    rows = with_prompts(rows)
    params = params or SamplingParams(task.max_new_tokens, temperature=0.0)
    rewards = _rewards(task)
    slices = [slice if isinstance(slice, str) else slice(row) for row in rows]
    named = enumerate(zip(slices, rows, strict=True))
    ids = list(ids) or [case_id(task.name, own, row, i) for i, (own, row) in named]
    encode = sampler.chat.encode if isinstance(sampler, KnowsContext) else None
    _check_rows(task.name, rows, ids, [*rewards.values()], tokens=encode is not None)
    if isinstance(sampler, KnowsContext) and task.environment is None:
        _check_prompts(sampler.chat, rows, ids)
    cases: list[Case] = []
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        # Request i of a call samples from the stream (seed, i): a seed per chunk, or chunks would repeat them.
        own = replace(params, seed=params.seed + start)
        said: dict[str, list[list[Outcome]]] = {}
        turns: Sequence[list[str]] = [[] for _ in chunk]
        replies: Sequence[list[str]] = turns
        if task.environment is not None:
            ended = episodes(task.environment, chunk, sampler, own)
            written = [episode.written for episode in ended]
            read, turns = [as_read(episode) for episode in ended], [episode.said for episode in ended]
            completions = [completion.text for completion in read]
            replies = [episode.replies for episode in ended]
            said["score"] = judge(task, [[episode] for episode in ended], workers, encode)
        else:
            texts = sampler.complete([row["prompt"] for row in chunk], own)
            written = [[text] for text in texts]
            completions = _begun(sampler, [row["prompt"] for row in chunk], texts)
            read = [Completion([], [], text=text) for text in completions]
        if len(completions) != len(chunk):
            raise InputError(f"the sampler gave {len(completions)} completions for {len(chunk)} prompts")
        calls = [Call([c], [row["prompt"]], row, encode) for row, c in zip(chunk, read, strict=True)]
        for name, function in rewards.items():
            if name not in said:
                said[name] = score_groups(function, calls, workers)
        for offset, (row, completion) in enumerate(zip(chunk, completions, strict=True)):
            outcomes = {name: said[name][offset][0] for name in said}
            index = start + offset
            shared = cluster(row) if cluster else ""
            _check_parts(task, ids[index], outcomes)
            case = _case(task, ids[index], track, slices[index], shared, row["prompt"], completion, outcomes)
            took, sampled = _taken(written[offset]), turns_of(written[offset])
            case = replace(case, turns=turns[offset], replies=replies[offset])
            cases.append(replace(case, usage=took, sampled=sampled))
        if progress:
            progress(len(cases), len(rows))
    return cases if task.environment else by_prompt(cases)


def by_prompt(cases: Sequence[Case]) -> list[Case]:
    """The cases, with a cluster where several of a track have one prompt: copies are no further evidence.

    Cases that have another cluster keep it, and episodes have none: their prompt may be that of every row.
    """
    asked = [(case.track, f"prompt {fingerprint(prompt_text(case.prompt))}") for case in cases]
    alone = [
        case.cluster in ("", name) and not case.turns for case, (_, name) in zip(cases, asked, strict=True)
    ]
    counts = Counter(key for key, own in zip(asked, alone, strict=True) if own)
    return [
        replace(case, cluster=key[1]) if own and counts[key] > 1 else case
        for case, key, own in zip(cases, asked, alone, strict=True)
    ]


def case_id(task: str, slice: str, row: Row, index: int) -> str:
    """What the case of a row is called."""
    return f"{task}/{slice}/{row.get('id', index)}"


def _taken(texts: Sequence[str]) -> dict[str, float]:
    """What the turns of an answer took together, and if one was cut off; empty if the sampler did not count one."""
    said = [text for text in texts if isinstance(text, Answer) and text.usage]
    if not said or len(said) < len(texts):
        return {}
    ends = {"cut_off": float("length" in ended)} if all(ended := [one.finish_reason for one in said]) else {}
    return {name: sum(one.usage[name] for one in said) for name in said[0].usage} | ends


def _begun(sampler: Sampler, prompts: Sequence[Prompt], written: Sequence[str]) -> list[str]:
    """What the sampler wrote, as rewards read it: see `rewards.text.thinking.begun`."""
    completions = [str(text) for text in written]
    if not isinstance(sampler, KnowsContext) or len(completions) != len(prompts):
        return completions
    opened = [opened_in(sampler.chat.prompt(prompt), sampler.chat.text) for prompt in prompts]
    return [begun(tag, said) for tag, said in zip(opened, completions, strict=True)]


def usage_file(path: Path) -> Path:
    """Where the usage of a file of cases is: apart from them, since seconds differ from run to run."""
    return path.with_name(f"{path.name.removesuffix('.gz').removesuffix('.jsonl')}.usage.jsonl")


def write_cases(path: Path, cases: Mapping[str, Sequence[Case]]) -> None:
    """Write `cases.jsonl`: a line per case, with every model's completion and score; and usage, tokens, draws."""
    lines: dict[str, dict[str, Any]] = {}
    for model, model_cases in cases.items():
        for case in model_cases:
            shared: dict[str, Any] = {"case": case.id, "track": case.track, "slice": case.slice}
            shared["cluster"] = case.cluster
            shared["prompt"] = plain_prompt(case.prompt)
            line = lines.setdefault(case.id, {**shared, "models": {}})
            for key, value in shared.items():
                if line[key] != value:
                    raise InputError(
                        f"case {case.id!r} differs between models in its {key}: {line[key]!r} and, for "
                        f"{model!r}, {value!r}; models must be evaluated on the same rows"
                    )
            if model in line["models"]:
                raise InputError(f"model {model!r} has two cases called {case.id!r}")
            own = {key: getattr(case, key) for key in OWN}
            line["models"][model] = {key: own[key] for key in OWN if key not in SOME or own[key]}
    used = {model: {case.id: case.usage for case in own if case.usage} for model, own in cases.items()}
    stored(usage_file(path)).unlink(missing_ok=True)
    if any(used.values()):
        target = usage_file(path).with_suffix(".jsonl.gz" if path.suffix == ".gz" else ".jsonl")
        write_jsonl(target, [{"model": model, "usage": own} for model, own in used.items()])
    write_turns(path, {model: {case.id: case.sampled for case in own} for model, own in cases.items()})
    write_draws(path, {model: {case.id: case.draw for case in own} for model, own in cases.items()})
    write_jsonl(path, lines.values())


def asked_with(track: str, slice: str) -> tuple[str, str]:
    """Of a case: those with the same were asked together. A task is asked slice by slice, all controls at once."""
    return track, "" if track == CONTROLS else slice


def read_cases(path: Path, sampled: bool = False) -> dict[str, list[Case]]:
    """Model -> its cases, from `cases.jsonl`; with the tokens and draws that were sampled, if asked.

    InputError, with the line: it is no case, or stands there twice, which would count twice.
    """
    cases: dict[str, list[Case]] = {}
    known = set[tuple[str, str]]()
    turns, draws = (read_turns(path), read_draws(path)) if sampled else ({}, {})
    usage = _usage(stored(usage_file(path)))
    for number, line in read_jsonl(path):
        try:
            shared = {key: line[key] for key in ("track", "slice", "cluster", "prompt")}
            for model, own in line["models"].items():
                took = usage.get(model, {}).get(line["case"], {})
                case = Case(id=line["case"], **shared, **own, usage=took)
                own_turns, draw = turns.get(model, {}).get(case.id, ()), draws.get(model, {}).get(case.id)
                cases.setdefault(model, []).append(replace(case, sampled=own_turns, draw=draw))
                if (model, case.id) in known:
                    raise InputError(f"{path}:{number}: the case {case.id!r} of {model} stands there twice")
                known.add((model, case.id))
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a case ({type(error).__name__}: {error})") from error
    return cases


def _usage(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Model -> case -> what its answer took; empty where nothing was counted."""
    try:
        return {line["model"]: line["usage"] for _, line in read_jsonl(path)} if path.exists() else {}
    except KeyError as error:
        raise InputError(f"{path}: not what answers took (no {error})") from error


def _rewards(task: Task) -> dict[str, Reward]:
    """What scores a case: the reward, metrics, and the parts of the reward."""
    rewards: dict[str, Reward] = {"score": task.reward} if task.reward and task.scorer == "reward" else {}
    return rewards | dict(task.metrics) | {part_key(name): part for name, part in task.parts.items()}


def check_cases(task: Task, rows: Sequence[Row], slice: str) -> None:
    """InputError, with the case: `evaluate` would refuse these rows, as a column is missing, or an id stands twice."""
    rows = with_prompts(rows)
    ids = [case_id(task.name, slice, row, i) for i, row in enumerate(rows)]
    _check_rows(task.name, rows, ids, [*_rewards(task).values()], tokens=True)


def _check_rows(
    task_name: str, rows: Sequence[Row], ids: Sequence[str], rewards: Sequence[Reward], *, tokens: bool
) -> None:
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"task {task_name!r} has two rows for the case {twice!r}; ids must be unique")
    seen = set[tuple[str, ...]]()
    for name, row in zip(ids, rows, strict=True):
        if tuple(row) not in seen:
            seen.add(tuple(row))
            for reward in rewards:
                try:
                    check_reward(reward, row, tokens=tokens)
                except InputError as error:
                    raise InputError(f"case {name!r}: {error}") from error
        if not row.get("prompt"):
            raise InputError(f"case {name!r} has no prompt; its row has: {', '.join(row)}")


def _check_prompts(chat: Chat, rows: Sequence[Row], ids: Sequence[str]) -> None:
    """InputError: the chat template cannot render the prompt of a case, or leaves some of it out."""
    for name, row in zip(ids, rows, strict=True):
        try:
            chat.prompt(row["prompt"])
        except InputError as error:
            raise InputError(f"case {name!r}: {error}") from error


def _check_parts(task: Task, case: str, outcomes: Mapping[str, Outcome]) -> None:
    """InputError: the parts of the reward give other points than the reward. What errored is not compared."""
    said = [outcomes["score"], *(outcomes[part_key(name)] for name in task.parts)]
    if not task.parts or any(outcome.status != "scored" for outcome in said):
        return
    score, *points = (outcome.worth or 0.0 for outcome in said)
    if abs(score - sum(points)) > 1e-6:
        given = ", ".join(f"{name} {value:g}" for name, value in zip(task.parts, points, strict=True))
        raise InputError(
            f"task {task.name!r}: the parts of the reward must add up to it; of case {case!r} they give "
            f"{sum(points):g} ({given}), the reward gives {score:g}"
        )


def _case(
    task: Task,
    name: str,
    track: str,
    slice: str,
    cluster: str,
    prompt: Prompt,
    completion: str,
    outcomes: Mapping[str, Outcome],
) -> Case:
    return Case(
        id=name,
        track=track,
        slice=slice,
        cluster=cluster,
        prompt=prompt,
        completion=completion,
        score=outcomes["score"].worth,
        metrics=_worth(outcomes, {name: name for name in task.metrics}),
        parts=_points(task, outcomes),
        errors={k: o.reason for k, o in outcomes.items() if o.status == "errored"},
    )


def _points(task: Task, outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    """What each part of the reward gave: as the task says, or of a combined reward as it is combined."""
    if not task.parts and isinstance(task.reward, Combined) and task.scorer == "reward":
        return task.reward.points(outcomes["score"].parts)
    return _worth(outcomes, {name: part_key(name) for name in task.parts})


def _worth(outcomes: Mapping[str, Outcome], keys: Mapping[str, str]) -> dict[str, float]:
    """Name -> number, of those that have one."""
    found = {name: outcomes[key].worth for name, key in keys.items()}
    return {name: value for name, value in found.items() if value is not None}


def plain_prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    """The prompt as JSON has it."""
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
