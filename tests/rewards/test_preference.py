"""A trained reward model is a reward like any other: scored by the runner, loaded by name, in any training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from random_groups import make_learner, stir_weights
from tieout.learner.checkpoint import save_adapter
from tieout.rewards import load_reward
from tieout.rewards.library.reward_model import reward_model
from tieout.rewards.scoring.runner import check_reward, score
from tieout.source import Source
from tieout.types import Completion, Group
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(tiny_model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """The folder of a reward model, and what its learner says of the first row's two completions."""
    learner = make_learner(tiny_model("llama"), head="score")
    stir_weights(learner)
    folder = tmp_path_factory.mktemp("reward") / "adapter"
    save_adapter(learner, folder)
    source = Source(make_task(), learner.model.chat)
    group = source.given(ROWS[0], [ROWS[0]["chosen"], ROWS[0]["rejected"]], None)
    return folder, learner.scores([group])[0]


def test_it_scores_as_its_learner_did(trained: tuple[Path, list[float]]) -> None:
    folder, expected = trained
    reward = load_reward(f"reward_model:{folder}")
    row = ROWS[0]
    check_reward(reward, row)
    texts = [row["chosen"], row["rejected"]]
    outcomes = score(reward, texts, [row["prompt"]] * 2, row)
    assert [o.status for o in outcomes] == ["scored", "scored"]
    assert [o.score for o in outcomes] == pytest.approx(expected, abs=1e-5)
    assert expected[0] != pytest.approx(expected[1], abs=1e-2)
    several = reward(texts, [ROWS[1]["prompt"], row["prompt"]])  # each completion with its own prompt
    assert several[1] == pytest.approx(expected[1], abs=1e-5)
    assert several[0] != pytest.approx(expected[0], abs=1e-4)


def test_a_folder_that_holds_no_reward_model_is_said(tiny_model: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load_reward("reward_model:nowhere")
    save_adapter(make_learner(tiny_model("llama")), tmp_path / "policy")
    reward = reward_model(tmp_path / "policy")
    with pytest.raises(ValueError, match=r"is a causal language model .*it writes text"):
        reward(["x"], ["y"])
    (outcome,) = score(reward, ["x"], ["y"], {})
    assert outcome.status == "errored"


def test_naming_one_needs_no_torch(trained: tuple[Path, list[float]]) -> None:
    code = "import sys; from tieout.rewards import load_reward; load_reward(sys.argv[1]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, f"reward_model:{trained[0]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_sits_on_the_policys_base_or_on_its_own(
    tiny_model: ModelFolder, trained: tuple[Path, list[float]]
) -> None:
    from tieout.rewards.library.reward_model import SharedReward

    folder, expected = trained
    policy = make_learner(tiny_model("llama"))
    policy.model.add_reward(folder)
    row = ROWS[0]
    shared = SharedReward(policy)([row["chosen"], row["rejected"]], [row["prompt"]] * 2)
    assert shared == pytest.approx(expected, abs=1e-5)
    assert isinstance(policy.scores([Group([1, 2], [Completion([3], [True])])])[0][0], float)
