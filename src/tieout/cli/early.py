"""Checks that need no torch, made before it is imported: names, files, columns, figures.

What they refuse is refused later too; here it is answered at once. What they cannot tell is left to those checks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

from .. import embedded
from ..config.elsewhere import ANSWERS, ELSEWHERE
from ..config.method_table import TABLE, check_name
from ..errors import InputError
from ..rows import Kind, Rows, check_general, read_rows
from ..rows.pairs import rows_for
from ..samplers.api.opening import is_api
from .unloaded import PACKAGE, fields_in, fields_of

NAMED = (*embedded.NAMES, "smollm2-135m")
GROUPS = ("adapter", "learner", "schedule", "guards", "selection")
SCORED_BY = "give --reward NAME or FILE.py:function, or --reward-model FOLDER"
_LARGE = 32_000_000
"""Bytes of a file that is not read twice."""


def check_train(name: str, arguments: Sequence[str]) -> None:
    """InputError: an option of `tieout train NAME` that does not exist, or names what is not there or does not fit."""
    if name not in TABLE or {"-h", "--help"} & set(arguments):
        return
    known = TABLE[name]
    given = _given(arguments, {**fields_of(name), **_common(known.rows == "prompt")})
    _check_figures(name, given, "--")
    model_named(given.get("model", NAMED[0]))
    rows = _rows(given.get("data"), known.rows)
    _rows(given.get("held-out"), known.rows)
    reward, task = given.get("reward"), given.get("task")
    if name == "distill":
        teachers_named(given.get("teacher", ""))
    scored = known.rows == "prompt" and known.rewarded
    if rows is not None and reward is None and scored and "reward-model" not in given:
        raise InputError(f"{name} needs a reward: {SCORED_BY}")
    check_named(reward, task)
    if rows is not None:
        size = int(given.get("batch-size", 0))
        batch_fits(size, len(rows), "--batch-size")


def batch_fits(size: int, rows: int, name: str = "batch_size") -> None:
    """InputError: a batch would hold rows twice."""
    if size > rows:
        raise InputError(
            f"{name} is {size}, and there are {rows} rows: a step would learn the same row several times; "
            f"give at most {rows}"
        )


def check_recipe(plain: Mapping[str, Any], where: str) -> None:
    """InputError: a method, setting, file, model, task or reward that a recipe names and that is not there."""
    stages = [stage for stage in plain.get("stages") or [] if isinstance(stage, Mapping)]
    options = fields_in("TrainOptions", PACKAGE / "pipelines" / "kinds.py")
    for place, stage in enumerate(stages):
        name = stage.get("train")
        if not isinstance(name, str):
            continue
        try:
            check_name(name)
        except InputError as error:
            raise InputError(f"{where}: stages[{place}] (train): {error}") from error
        if name in TABLE:
            here = f"{where}: stages[{place}] (train {name})"
            _known_keys(stage, {**fields_of(name), **options, "rewards": "dict"}, here)
            _check_figures(name, {str(k).replace("_", "-"): v for k, v in stage.items()}, f"{here}: ")
    if isinstance(model := plain.get("model", NAMED[0]), str):
        model_named(model)
    from ..rows.sources import sources_of

    data, counts = sources_of(plain.get("data"), where), dict[str, int]()
    kinds: dict[str, Kind] = {"train": "demonstration", "pairs": "ranking", "labels": "label", "test": "prompt",
                              "ood": "prompt", "controls": "prompt", "general": "demonstration"}  # fmt: skip
    if isinstance(data, Mapping):
        for key, kind in kinds.items():
            if isinstance(data.get(key), str):
                counts[key] = len(_rows(data[key], kind) or ())
    for place, stage in enumerate(stages):
        name, size = stage.get("train"), stage.get("batch_size")
        known = TABLE.get(str(name))
        learned = known is not None and known.rows == "demonstration" and "data" not in stage
        if learned and isinstance(size, int) and (count := counts.get("train", 0)):
            batch_fits(size, count, f"{where}: stages[{place}] (train {name}): batch_size")
    from ..config.weights import one_reward

    reward, task = one_reward(plain, where).get("reward"), plain.get("task")
    check_named(reward if isinstance(reward, str) else None, task if isinstance(task, str) else None)


def check_named(reward: str | None, task: str | None) -> None:
    """InputError: a reward or task that is not there. What needs torch to be loaded is left alone."""
    from ..config.weights import weights_of
    from ..rewards import FACTORIES, load_reward
    from ..tasks import TASKS

    for one in weights_of(reward) or [reward] if reward else ():
        if one.partition(":")[0] not in FACTORIES:
            load_reward(one)
    if task and ":" not in task and task not in TASKS:
        near = get_close_matches(task, TASKS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise InputError(f"no task {task!r}{hint} There are: {', '.join(TASKS)}; or FILE.py:attribute")


def model_named(name: str, runs: bool = False, api: bool = False) -> None:
    """InputError: the name is that of a folder or file that is not there, or so like one that it is no hub id.

    `runs`: the folder of a run will do, for its model. `api`: so will a model behind an API.
    """
    if is_api(name):
        if not api:
            raise InputError(
                f"{name} is behind an API, and this takes a model whose weights are here; `tieout sample`, `eval`, "
                "`best-of`, `prefer` and `optimize-prompt` take api:NAME"
            )
        return
    path = Path(name).expanduser()
    if name in NAMED or path.exists():
        whole = any((path / file).exists() for file in ("config.json", "adapter_config.json"))
        if path.is_dir() and not whole and not runs:
            adapters = sorted(path.glob("*/adapter/adapter_config.json"))
            if adapters:
                raise InputError(f"{name} is the folder of a run; its model is {adapters[-1].parent}")
        return
    if _cached(name):
        return
    folder = path.parent
    beside = [str(one) for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    beside = [one for one in beside if not one.startswith(str(path))]  # gpt2-tuned is no mistake for gpt2
    near = get_close_matches(str(path), beside, n=1, cutoff=0.75) or get_close_matches(
        name, NAMED, n=1, cutoff=0.75
    )
    if near:
        raise InputError(f"there is no model {name!r} here; did you mean {near[0]!r}? A hub id is OWNER/NAME")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.lower().endswith(".gguf"):
        raise InputError(
            f"model folder {name} does not exist; give a folder, a hub id (OWNER/NAME), or {' or '.join(NAMED)}"
        )


def teachers_named(teacher: str) -> None:
    """InputError: there is no teacher, or one that is a folder that is not there."""
    if not teacher:
        raise InputError(
            "distill needs a teacher: give --teacher a model or an adapter; or policy or reference, which is the "
            "student itself, with --teacher-prompt"
        )
    for one in teacher.split(","):
        name = one.strip().rpartition("=")[2]
        if name and name not in ("policy", "reference"):
            model_named(name)


def _cached(hub_id: str) -> bool:
    """Whether the hub's cache holds a model."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return (cache / f"models--{hub_id.replace('/', '--')}").exists()


def _common(samples: bool) -> dict[str, str]:
    """Options of every method -> their annotations."""
    parts = [
        ("Options", "cli/train_rows.py"),
        ("Placement", "training/placement.py"),
        ("EvalPolicy", "training/spec.py"),
    ]
    parts += [("RewardCheck", "vetting/before_training.py")] if samples else []
    return {k: v for name, file in parts for k, v in fields_in(name, PACKAGE / file).items()}


def _given(arguments: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Option, with dashes -> what follows it. InputError: an option that is not known."""
    names = {name.replace("_", "-") for name in known}
    given: dict[str, str] = {}
    for place, one in enumerate(arguments):
        if not one.startswith("--") or one == "--":
            continue
        name, equals, value = one[2:].partition("=")
        name = name.replace("_", "-")
        if name.partition(".")[0] in GROUPS and "." in name:
            continue
        if name not in names and name.removeprefix("no-") not in names:
            theirs = name.replace("-", "_")
            if theirs in ANSWERS:
                raise InputError(f"no option --{name}: {ANSWERS[theirs]}")
            if theirs in ELSEWHERE:
                raise InputError(f"no option --{name}: here it is --{ELSEWHERE[theirs].replace('_', '-')}")
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean --{near[0]}?" if near else ""
            raise InputError(f"no option --{name}{hint} `--help` lists all of them")
        follows = list(takewhile(lambda one: not one.startswith("--"), arguments[place + 1 :]))
        kind = known.get(name.replace("-", "_"), "bool")
        if not equals and not follows and not kind.startswith(("bool", "tyro")):
            file = "Path" in kind or "DataSpec" in kind
            raise InputError(f"nothing follows --{name}; expected --{name} {'FILE' if file else 'VALUE'}")
        many = kind.startswith(("RewardSpec", "DataSpec"))
        given[name] = value if equals else " ".join(follows if many else follows[:1])
    return given


def _known_keys(stage: Mapping[str, Any], known: Mapping[str, str], where: str) -> None:
    from ..config.fields import nearest

    names = ["from" if key == "start" else key for key in known]
    for key in map(str, stage):
        if key not in (*names, "train"):
            hint = "; did you mean 'from'?" if key == "start" else nearest(key, names)
            raise InputError(f"{where}: unknown key {key!r}{hint or ';'} known: {', '.join(names)}")


def _check_figures(method: str, given: Mapping[str, Any], before: str) -> None:
    """InputError: a value that is no number where one is expected, or one that no method takes."""
    ranges = TABLE[method].ranges
    for field, kind in fields_of(method).items():
        name = field.replace("_", "-")
        if kind not in ("int", "float") or name not in given:
            continue
        shown = f"{before}{name if before == '--' else field}"
        try:
            value = int(given[name]) if kind == "int" else float(given[name])
        except (TypeError, ValueError):
            expected = "a whole number" if kind == "int" else "a number, such as 2e-4"
            raise InputError(f"{shown} is {given[name]!r}; expected {expected}") from None
        if field in ranges:
            ranges[field].check(shown, value, given[name])


def _rows(path: str | None, kind: Kind) -> Rows | None:
    """The rows of a file, checked; None where there is none, or it is large."""
    if not path:
        return None
    if os.path.isfile(path) and os.path.getsize(path) > _LARGE:
        return None
    rows = rows_for(kind, read_rows(path), path)
    if kind in ("preference", "ranking"):
        check_general(rows, "", True, path)
    return rows
