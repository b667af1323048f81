"""`--engine tinker`: from the command line to the fetched adapter, killed at every verb, and what is refused first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file

from fake_tinker import FakeTinker
from tieout.cli.plan import main as plan_recipe
from tieout.cli.train import main
from tieout.errors import InputError
from tieout.learner import AdapterConfig, LearnerConfig
from tieout.learner.checkpoint import Checkpoints
from tieout.learner.tinker import connection as room
from tieout.learner.tinker.connection import Connection, ServerLost
from tieout.learner.tinker.learner import TinkerLearner
from tieout.learner.tinker.reduction import Reduction
from tieout.learner.tinker.served_model import served_model
from tieout.learner.tinker.start_check import Adapter
from tieout.methods import GRPO, PPO, SFT, Distill, Method, RewardModel
from tieout.pipelines.planning.runs import plan_run
from tieout.pipelines.reading import make_recipe
from tieout.pipelines.run import Run
from tieout.shipping.reload_check import BehaviourError
from tieout.source import Source
from tieout.storage.runfolder import RunFolder
from tieout.training.loop import train
from tieout.training.placement import Placement
from tieout.training.spec import TrainSpec
from tiny_task import METHODS, make_task

pytest.importorskip("tinker", reason="the client of training servers: pip install -e '.[dev]'")

URL = "http://127.0.0.1:1"
ROWS = [
    {
        "prompt": f"say {i}",
        "chosen": f"{i}.",
        "rejected": f"{i * 7}?",
        "completion": f"{i}.",
        "answer": str(i),
    }
    for i in range(8)
]


@pytest.fixture
def served(tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> FakeTinker:
    server = FakeTinker(tiny_model("llama"))
    monkeypatch.setattr(room, "open_service", lambda url: server)
    monkeypatch.setattr(room, "download", server.archive)
    return server


def call(method: str, folder: Path, model: Path | str, **given: Any) -> Path:
    data = folder / "rows.jsonl"
    columns = ("prompt", "answer") if method == "grpo" else ("prompt", "chosen", "rejected", "completion")
    data.write_text("".join(json.dumps({c: row[c] for c in columns}) + "\n" for row in ROWS))
    options = {"model": model, "data": data, "out": folder / method, "engine": "tinker", "engine-url": URL}
    options |= {
        "batch-size": 4,
        "learner.max-grad-norm": 0,
        "adapter.rank": 4,
        "learning-rate": 1e-3,
        **given,
    }
    main(
        [
            method,
            *(
                str(x)
                for name, value in options.items()
                if value is not None
                for x in ((f"--{name}",) if value is True else (f"--{name}", value))
            ),
        ]
    )
    return folder / method / method / "adapter"


def test_a_run_on_a_server_leaves_an_adapter_that_a_later_stage_starts_from(
    served: FakeTinker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SFT, then GRPO from it: the reference is the start, and what is fetched says the same here."""
    first = call("sft", tmp_path, served.folder)
    printed = " ".join(capsys.readouterr().out.split())
    assert "gradients are reduced as mean of row means" in printed
    assert "the fetched adapter gives the server's log-probabilities within" in printed
    config = json.loads((first / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"]) == (4, 32.0)
    assert json.loads((first.parent / "behaviour.json").read_text())["dtype"] == "float32"
    given = {"reward": "exact", "group-size": 4, "max-new-tokens": 4, "adapter.rank": None, "beta": 0.1}
    second = call("grpo", tmp_path, first, **given)
    metrics = [json.loads(line) for line in (second.parent / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["kl"] == pytest.approx(0.0, abs=1e-6), "the reference is the policy at step 0"
    assert all(m["mismatch"] < 1e-5 and m["ratio_error"] < 1e-5 for m in metrics)
    assert "staleness" in metrics[1] or metrics[0]["grad_norm"] == 0
    run = json.loads((tmp_path / "grpo" / "run.json").read_text())
    assert "tinker://" not in json.dumps(run["config"] if "config" in run else run["identity"])
    weights = load_file(first / "adapter_model.safetensors")
    assert sorted(weights) == sorted(load_file(second / "adapter_model.safetensors"))
    kept = [path for path in served.disk if "/weights/" in path]
    assert len(kept) <= 3 + 3, "older checkpoints are deleted on the server, too"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_fetched_adapter_that_says_something_else_is_not_shipped(
    served: FakeTinker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """By as little as bfloat16 rounds: server and adapter are compared in fp32, whatever the run computes in."""
    honest = served.archive
    call("sft", tmp_path, served.folder, dtype=dtype)
    behaviour = json.loads((tmp_path / "sft" / "sft" / "behaviour.json").read_text())
    assert behaviour["dtype"] == {"fp32": "float32", "bf16": "bfloat16"}[dtype]
    calls = iter(range(99))

    def other(path: str, seconds: float) -> bytes:
        if next(calls) > 4:  # after the five of the examination
            weights = served.disk[path][0]
            weights.values.update({n: x * 1.3 for n, x in weights.values.items() if "lora_B" in n})
        return honest(path, seconds)

    monkeypatch.setattr(room, "download", other)
    folder = tmp_path / "again"
    folder.mkdir()
    with pytest.raises(
        BehaviourError, match=r"to 0\.[01]\d* nats from the server's.*it is not what was trained"
    ):
        call("sft", folder, served.folder, dtype=dtype)
    assert not (folder / "sft" / "sft" / "done.json").exists()


ANSWERED = {"forward": 3, "create_model": 0, "sample": 4}
"""Calls of a verb before the server dies; of all others 1."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "verbs"),
    [
        ("dpo", ["create_model", "forward", "forward_backward", "optim_step", "save_state"]),
        ("grpo", ["save_weights_for_sampler", "create_sampling_client", "sample", "compute_logprobs"]),
    ],
)
def test_a_server_that_dies_at_any_verb_loses_at_most_the_step(
    tiny_model: Callable[[str], Path], tmp_path: Path, method: str, verbs: list[str]
) -> None:
    """Started again over the same disk, the run ends with the log-probabilities of an unbroken one, to the bit."""
    folder, told = tiny_model("llama"), dict[str, Any]()

    def live(name: str, disk: dict[str, Any], dies: str = "") -> TinkerLearner:
        server = FakeTinker(folder, disk=disk)
        learner = _learner(server, folder)
        if dies:
            server.dies[dies] = ANSWERED.get(dies, 1)
        given: dict[str, Any] = {"checkpoints": Checkpoints(tmp_path / name), "on_start": done.append}
        train(METHODS[method], _source(learner, METHODS[method]), learner, steps=2, save_steps=1, **given)
        return learner

    for verb in ("", *verbs):
        disk, done = dict[str, Any](), list[int]()
        if verb:
            with pytest.raises(ServerLost, match=f"failed at {verb}"):
                live(verb, disk, dies=verb)
        learner = live(verb or "unbroken", disk)
        source = _source(learner, METHODS["dpo"])
        told[verb] = learner.logprobs([source.preference(row) for row in source.rows[:3]])
        assert told[verb] == told[""]
        assert done[-1] == (
            1 if verb not in ("", "create_model", "save_state") else 1 * (verb == "save_state")
        )


def _learner(server: FakeTinker, folder: Path) -> TinkerLearner:
    connection, model = Connection(URL, server, seconds=20.0), served_model(str(folder))
    return TinkerLearner(connection, model, Adapter(str(folder), 4, 32.0, 0), Reduction("mean of row means"))


def _source(learner: TinkerLearner, method: Method) -> Source:
    from tieout.samplers.tinker.sampler import ServedStaleness, TinkerSampler

    sampler = ServedStaleness(TinkerSampler(learner)) if method.needs.samples else None
    return Source(make_task(), learner.model.chat, sampler, seed=7)


PLACE = Placement(engine_url=URL)
PLAIN = LearnerConfig(max_grad_norm=0)


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        (PPO(), {}, "PPO needs a value head"),
        (RewardModel(), {}, "needs a score head"),
        (Distill(teacher="tieout-base"), {}, "needs the distributions of a teacher"),
        (GRPO(temperature=0.7), {}, "temperature is 0.7, and servers give log-probabilities at 1 only"),
        (GRPO(entropy_coef=0.1), {}, "entropy_coef needs entropies"),
        (GRPO(beta=0.1, reference_steps=5), {}, "reference_steps moves the reference"),
        (GRPO(reward_model="folder"), {}, "reward_model scores on the policy's own base"),
        (SFT(), {"adapter": AdapterConfig("dora")}, "adapter.method is dora"),
        (SFT(), {"adapter": AdapterConfig("qlora")}, "adapter.method is qlora"),
        (SFT(), {"adapter": AdapterConfig(dropout=0.1)}, "adapter.dropout is 0.1"),
        (SFT(), {"adapter": AdapterConfig(targets="q_proj")}, "adapter.targets is q_proj"),
        (
            SFT(),
            {"learner": LearnerConfig()},
            "servers do not scale gradients down to what is asked for: say so by --learner.max-grad-norm 0",
        ),
        (
            SFT(),
            {"learner": LearnerConfig(max_grad_norm=0, layout="packed")},
            "the server's own: leave them out",
        ),
        (SFT(), {"placement": Placement(engine_url=URL, vllm="http://127.0.0.1:2")}, "vllm: the server"),
        (SFT(), {"placement": Placement()}, "no address is given: --engine-url"),
        (SFT(), {"placement": Placement(engine_url="http://me:secret@host")}, "TINKER_API_KEY"),
    ],
)
def test_what_a_server_lacks_is_refused_before_any_work(
    method: Method, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as found:
        TrainSpec(method, engine="tinker", **{"learner": PLAIN, "placement": PLACE, **given})
    assert said in str(found.value)
    assert "secret" not in str(found.value)


def test_recipes_are_refused_when_they_are_read_and_starts_from_elsewhere_too(
    served: FakeTinker, tmp_path: Path
) -> None:
    plain = {
        "model": served.folder,
        "engine": "tinker",
        "placement": {"engine_url": URL},
        "task": "summaries",
    }
    plain |= {"learner": {"max_grad_norm": 0}}
    assert make_recipe(plain | _stages("sft"), "r.yaml").engine == "tinker"
    with pytest.raises(InputError, match=r"stage 'ppo': engine 'tinker' [^\n]*\n  PPO needs a value head"):
        make_recipe(plain | _stages("ppo"), "r.yaml")
    with pytest.raises(InputError, match="the engine is 'local'"):
        make_recipe({**plain, "engine": "local"} | _stages("sft"), "r.yaml")
    with pytest.raises(InputError, match="engine_check: of engine 'tinker'"):
        make_recipe(
            {"model": "tieout-base", "placement": {"engine_check": "server"}} | _stages("sft"), "r.yaml"
        )
    served.names = ["one", "two"]
    with pytest.raises(InputError, match=r"serves one, two, and .* was asked for: give its name there"):
        call("sft", tmp_path, served.folder)
    served.names = [served.folder]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": served.folder}))
    with pytest.raises(InputError, match="servers take no adapter from outside: merge it"):
        call("dpo", tmp_path, elsewhere)


def test_a_plan_asks_no_server_and_leaves_out_what_it_trains(
    served: FakeTinker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a base of any size: `tieout run` plans those of 30 million parameters and more before it starts."""
    plain: dict[str, Any] = {"model": served.folder, "engine": "tinker", "placement": {"engine_url": URL}}
    columns = ("prompt", "completion", "answer")
    rows = "".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in ROWS)
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows)
    plain |= {"data": {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}}
    plain |= {"accept_leakage": "nothing is measured"}
    plain |= {"reward": "exact", "learner": {"max_grad_norm": 0}, "max_new_tokens": 4}
    monkeypatch.setattr(room, "open_service", lambda url: pytest.fail("a server was asked"))
    recipe = make_recipe({**plain, "stages": [{"train": "sft"}, {"evaluate": {}}]}, "r.yaml")
    with RunFolder(tmp_path / "run") as folder:
        planned = plan_run(Run(recipe, folder, Console(quiet=True)))
    assert [one.name for one in planned] == ["evaluate, base", "evaluate, sft"]
    (tmp_path / "recipe.yaml").write_text(
        json.dumps(plain | {"stages": [{"train": "sft"}, {"evaluate": {}}]})
    )
    asked = [str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    plan_recipe(asked)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"train stages are left out: {URL} computes them" in printed
    assert "evaluate, base" in printed
    with pytest.raises(
        InputError, match=f"--memory counts train stages, and those of this recipe are on {URL}"
    ):
        plan_recipe([*asked, "--device", "cuda", "--memory", "24GiB"])
    with pytest.raises(InputError, match=r"a run takes \d\S* GiB for the base in fp32"):
        call("dpo", tmp_path, served.folder, plan=True)


def _stages(method: str) -> dict[str, Any]:
    return {"stages": [{"train": method}]}
