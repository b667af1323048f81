"""Re-perform an evaluation: the candidate's weights, loaded again, answer a random sample of its cases once more.

Three claims. **Outputs**: which cases, by which weights, and how many outputs are the recorded ones token for token.
**Log-probabilities**: those of the recorded tokens, by a plain forward here, are the recorded ones, and each recorded
token is the most probable one, as evaluation is greedy. The bound is measured: on the fresh outputs the sampler and a
plain forward compute the same numbers in another order, and may do so in this dtype on this machine; WORST times their
largest difference is allowed at one token, MEAN times their mean difference in the mean (see `merged_check`), and never
more than MOST. **Scores**: the paired interval of fresh minus recorded contains zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from ..chat.template import Chat
from ..episodes import Episode
from ..errors import InputError
from ..evidence.claims import Claim, Level
from ..evidence.consistency_rows import SAME_PROMPT
from ..evidence.evaluate import CONSISTENCY, CONTROLS, PROGRAMMATIC, Case, read_cases
from ..evidence.figures import pair_figures
from ..evidence.readings import judged
from ..evidence.replay import replayable
from ..evidence.sampled import Turn
from ..evidence.scoring import NAMES, Asked, asked_of
from ..evidence.verify import run_of, sample_size
from ..learner import Model, load
from ..learner.models.precision import name_of
from ..rewards.text.thinking import begun, opened_in
from ..rows.checks import with_prompts
from ..samplers import SamplingParams
from ..samplers.local.sampler import LocalSampler
from ..storage.identity import folder_digest, known_model
from ..storage.jsonl import read_json, stored
from ..storage.machine import environment
from ..tasks import Task
from ..types import Row
from .merged_check import LEAST, MEAN, WORST
from .reload_check import forced

LEVEL: Level = "re-performed"
MOST = {"fp32": (0.02, 1e-3), "bf16": (1.0, 0.05)}
"""dtype -> nats that are allowed at most at one token, and in the mean, whatever was measured."""
LISTED = 10
"""Cases whose log-probabilities differ are named up to this number."""

Begin = Callable[[int], Callable[[int], None]]
"""Called with a number of steps; gives what is called with the number that have just been done."""


def reperform(
    path: Path,
    report: Mapping[str, Any],
    asked: str,
    seed: int,
    *,
    base: str = "",
    weights: Path | None = None,
    device: str | None = None,
    begin: Begin = lambda total: lambda count: None,
) -> list[Claim]:
    """Answer cases of a report's candidate again, and compare outputs, log-probabilities and scores.

    Args:
        path: of the report, in its run folder.
        report: what is in it.
        asked: how many cases; see `sample_size`.
        seed: of the choice of cases.
        base: the base model, where the adapter's name of it is not valid here.
        weights: folder of the adapter or the whole model, where the run folder has none.
        device: to load on.
        begin: told how many steps there will be.

    Returns:
        the claims; a single one that was not checked, with the reason, if nothing can be performed again.
    """
    evidence, candidate = path.parent, report["settings"]["candidate"]
    try:
        cases = read_cases(stored(evidence / "cases.jsonl"), sampled=True)[candidate]
        own = {case.id: case for case in cases if (case.track, case.slice) != (CONSISTENCY, SAME_PROMPT)}
        count, sampled = sample_size(asked, len(own)), len(cases) - len(own)
        if not (evidence / NAMES).exists():
            raise InputError("the rows were not kept (made before they were)")
        names, every = read_json(evidence / NAMES), asked_of(evidence)
        known = sorted({name for one in every for name in one.ids} & own.keys())
        chosen = set(Random(seed).sample(known, min(count, len(known))))
        model, by = _open(run_of(path), candidate, report["metadata"], base, device, weights)
    except (ImportError, InputError, KeyError, OSError) as error:
        return [Claim(LEVEL, "outputs", f"not re-performed: {error}", checked=False)]
    advance = begin(2 * len(chosen))
    parts = [part for one in every if (part := one.only(chosen)).ids]
    fresh = {case.id: case for part in parts for case in _answers(part, own, model, names, advance)}
    same = sum(_same(own[name], case) for name, case in fresh.items())
    there = _machine(report["metadata"].get("environment", {}))
    said = (
        f"{len(fresh)} of {len(own)} cases of {candidate} ({asked}, seed {seed}), by {by}: {same} outputs "
        f"are token-identical; {there}"
    )
    said += f"; {sampled} answers that were sampled are left out" if sampled else ""
    return [
        Claim(LEVEL, "outputs", said),
        _logprobs(parts, own, fresh, model, advance),
        *_scores(own, fresh, report["settings"]["primary"], seed),
    ]


# ---------------------------------------------------------------- the model


def _open(
    run: Path,
    candidate: str,
    metadata: Mapping[str, Any],
    named: str,
    device: str | None,
    weights: Path | None,
) -> tuple[Model, str]:
    """The candidate's model, and what it is in words. InputError: it is not at hand."""
    identity = metadata.get("models", {}).get(candidate)
    if not isinstance(identity, Mapping) or not identity.get("trained"):
        raise InputError(f"the report knows no weights of {candidate} that were trained")
    trained = [p for p in run.glob("*/adapter") if _digest(p) == identity["trained"]]
    places = [run / "shipped/adapter", run / "candidate/adapter", *trained, run / candidate / "adapter"]
    places += [run / "shipped/merged", run / "candidate/merged"]
    place = weights or next((place for place in places if place.is_dir()), None)
    if weights and not weights.is_dir():
        raise InputError(f"{weights} is no folder; --weights names that of an adapter or a whole model")
    if place is None:
        raise InputError(f"the run folder has no weights of {candidate}; --weights names their folder")
    dtype = metadata.get("precision") or metadata.get("recipe", {}).get("dtype") or "auto"
    settings: dict[str, Any] = {"dtype": str(dtype).split()[0], "device": device}
    if (place / "adapter_config.json").exists():
        base = _base(run, place, identity["base"], named)
        model = load(base, start=place, four_bits=bool(identity.get("four_bits")), **settings)
    else:
        base, model = "", load(str(place), **settings)
    by = f"{_short(run, place)}{' on ' if base else ''}{base}"
    if weights and _digest(weights) != identity["trained"]:
        by += " (not of the digest that was evaluated; a shipped adapter has another settings file)"
    return model, f"{by} in {name_of(model.causal.dtype)} on {model.device.type}"


def _base(run: Path, adapter: Path, known: str, named: str) -> str:
    """The base that an adapter lies on: the one that was evaluated, by its digest where it is a folder.

    InputError: another one is there, or none.
    """
    said: str = read_json(adapter / "adapter_config.json")["base_model_name_or_path"]
    trained = (place for place in run.glob("*/adapter") if _digest(place) == known)  # whole, by a stage
    name = named or str(next(trained, said))
    if (found := known_model(name)) == known or (named and not re.fullmatch(r"[0-9a-f]{64}", known)):
        return name
    digests = f"{name} has the digest {found[:16]}, evaluated was {known[:16]}"
    raise InputError(
        f"the base model of {_short(run, adapter)} is not at hand ({digests if Path(name).exists() else name}); "
        "--base names it"
    )


def _short(run: Path, place: Path) -> str:
    """A place in the run folder by its name there, another one in full."""
    return str(place.relative_to(run) if place.is_relative_to(run) else place)


def _digest(folder: Path) -> str:
    try:
        return folder_digest(folder)
    except (InputError, OSError):
        return ""


def _machine(recorded: Mapping[str, Any]) -> str:
    here = environment()
    keys = ("machine", "processor", "threads")
    differ = [f"{key} {recorded.get(key)}" for key in keys if recorded.get(key) != here[key]]
    versions = recorded.get("versions", {})
    packages = ("torch", "transformers", "peft")
    differ += [f"{p} {versions.get(p)}" for p in packages if versions.get(p) != here["versions"][p]]
    return f"recorded with {', '.join(differ)}" if differ else "recorded on such a machine"


# ---------------------------------------------------------------- outputs


def _answers(
    part: Asked,
    own: Mapping[str, Case],
    model: Model,
    names: Mapping[str, Any],
    advance: Callable[[int], None],
) -> list[Case]:
    """What the model answers now, greedily, scored."""
    alone = part.task.environment is None  # an episode takes several completions for a row
    sampler = LocalSampler(model, progress=advance if alone else None)
    longest = None if part.track == CONTROLS else names.get("max_new_tokens")
    params = SamplingParams(longest or part.task.max_new_tokens, temperature=0.0)
    found = part.evaluate(own, sampler, params=params, batch_size=sampler.batch_size)
    if not alone:
        advance(len(found))
    return found


def _same(recorded: Case, fresh: Case) -> bool:
    if not recorded.sampled:
        return recorded.completion == fresh.completion
    return [turn.tokens for turn in recorded.sampled] == [turn.tokens for turn in fresh.sampled]


# ---------------------------------------------------------------- log-probabilities


@dataclass(frozen=True)
class _Forced:
    """The tokens of one case by a plain forward."""

    said: list[str]
    """Its turns, as rewards read them."""
    apart: list[list[float]]
    """[turn][C] nats by which the log-probabilities differ from the sampler's."""
    behind: list[list[float]]
    """[turn][C] nats by which another token leads; negative where none does."""


def _force(task: Task, row: Row, turns: Sequence[Turn], model: Model, known: dict[Any, Any]) -> _Forced:
    """Log-probabilities of turns that were sampled. `known`: forwards that were computed before."""
    chat, found = model.chat, _Forced([], [], [])
    episode = None if task.environment is None else Episode(task.environment, row)
    for turn in turns:
        prompt = chat.prompt(row["prompt"] if episode is None else episode.messages)
        key = tuple(prompt), tuple(turn.tokens)
        if key not in known:
            known[key] = forced(model, prompt, turn.tokens)
        logprobs, margins = known[key]
        found.apart.append([abs(a - b) for a, b in zip(logprobs, turn.logprobs, strict=True)])
        found.behind.append([-margin for margin in margins])
        found.said.append(_read(chat, prompt, turn.tokens))
        if episode is not None and not episode.ended:
            episode.take(chat.text(turn.tokens), opened_in(prompt, chat.text))
    return found


def _read(chat: Chat, prompt: list[int], tokens: list[int]) -> str:
    return begun(opened_in(prompt, chat.text), chat.text(tokens))


def _logprobs(
    parts: Sequence[Asked],
    own: Mapping[str, Case],
    fresh: Mapping[str, Case],
    model: Model,
    advance: Callable[[int], None],
) -> Claim:
    """Whether the recorded tokens are what these weights give, greedily, within what rounding does here."""
    what, forward = "log-probabilities", dict[Any, Any]()
    recorded, now, lost, left = dict[str, _Forced](), dict[str, _Forced](), list[str](), 0
    for part in parts:
        usable = set(part.ids)
        if part.task.environment is not None:
            usable = replayable(part.task, part.prompted(own), [own[name] for name in part.ids])[0]
        for name, row in zip(part.ids, with_prompts(part.prompted(own)), strict=True):
            if not own[name].sampled and (own[name].completion or part.task.environment is None):
                lost.append(name)
            elif name not in usable:
                left += 1
            else:
                recorded[name] = _force(part.task, row, own[name].sampled, model, forward)
                now[name] = _force(part.task, row, fresh[name].sampled, model, forward)
            advance(1)
    noise = [x for one in now.values() for turn in one.apart for x in turn]
    apart = [x for one in recorded.values() for turn in one.apart for x in turn]
    if not recorded or not noise or not apart:
        why = "tokens were not kept" if lost else "its episodes do not follow from their turns"
        return Claim(LEVEL, what, f"not computed again: {why}", checked=False)
    most = MOST[name_of(model.causal.dtype)]
    token = min(most[0], max(LEAST, WORST * max(noise)))
    mean = min(most[1], max(LEAST, MEAN * fmean(noise)))
    problems = [f"{name}: its tokens were not kept, those of other cases were" for name in lost]
    found = [line for name, one in recorded.items() if (line := _differs(own[name], one, model, token))]
    problems += found[:LISTED] + ([f"and {len(found) - LISTED} cases more"] if len(found) > LISTED else [])
    if not fmean(apart) <= mean:  # NaN is not
        problems.append(f"log-probabilities differ by {fmean(apart):.1e} nats in the mean")
    said = (
        f"of {len(apart)} recorded tokens of {len(recorded)} cases: at most {max(apart):.1e} nats from here, "
        f"{fmean(apart):.1e} in the mean; allowed are {token:.1e} and {mean:.1e}, as in {name_of(model.causal.dtype)} "
        f"on this machine sampler and plain forward differ by {max(noise):.1e} and {fmean(noise):.1e}"
    )
    said += f"; {left} cases were left out, whose episodes do not follow from their turns" if left else ""
    return Claim(LEVEL, what, said, problems, left=left)


def _differs(case: Case, here: _Forced, model: Model, allowed: float) -> str:
    """What is wrong with the recorded tokens of a case; nothing."""
    if here.said != (case.turns or [case.completion]):
        return f"{case.id}: its tokens are not those of its output"
    for turn, apart, behind in zip(case.sampled, here.apart, here.behind, strict=True):
        for t, token in enumerate(turn.tokens):
            said = f"{case.id}: token {t} ({model.chat.tokenizer.decode([token])!r}) of the recorded output"
            if not apart[t] <= allowed:
                return f"{said} has another log-probability here, by {apart[t]:.1e} nats"
            if not behind[t] <= 2 * allowed:
                return f"{said} is not what these weights say: another leads by {behind[t]:.1e} nats"
    return ""


# ---------------------------------------------------------------- scores


def _scores(
    own: Mapping[str, Case], fresh: Mapping[str, Case], primary: str | None, seed: int
) -> list[Claim]:
    """Whether the scores of the fresh outputs are those of the recorded ones, by track."""
    pairs = {"fresh": list(fresh.values()), "recorded": [own[name] for name in fresh]}
    claims = []
    for track in sorted({case.track for case in fresh.values()}):
        whole = pair_figures(pairs, [], "fresh", "recorded", track, seed)
        figures: dict[str, Mapping[str, Any]] = {"score": whole}
        if track == PROGRAMMATIC and primary:
            figures[primary] = judged(whole, primary)
        for reading, figure in figures.items():
            what = f"{reading}, {track.replace('_', ' ')}"
            if not figure["n"]:
                claims.append(Claim(LEVEL, what, "no case was scored both times", checked=False))
                continue
            said = (
                f"fresh minus recorded {figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}], "
                f"n {figure['n']}; it would have shown a difference of {figure['smallest_detectable']:.3f}"
            )
            outside = not figure["low"] <= 0 <= figure["high"]
            claims.append(Claim(LEVEL, what, said, ["the interval does not contain 0"] if outside else []))
    return claims
