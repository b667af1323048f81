"""What the reference said is asked once, survives a kill, and is never taken for what other weights or rows say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from random_groups import make_learner, random_groups
from tieout.learner import Learner
from tieout.learner.digest import digest
from tieout.learner.logprob_cache import LogprobCache, Logprobs
from tieout.types import Group

ModelFolder = Callable[[str], Path]


def given_groups(seed: int = 0) -> list[Group]:
    """As the data holds them: no sampler's log-probabilities."""
    return [
        replace(g, completions=[replace(c, logprobs=None) for c in g.completions])
        for g in random_groups(seed=seed)
    ]


class Reference:
    """Counts what it is asked; numbers that no float rounds."""

    def __init__(self) -> None:
        self.asked: list[Group] = []

    def __call__(self, groups: list[Group]) -> list[Logprobs]:
        self.asked += groups
        return [[[-t / 8 for t in c.tokens] for c in g.completions] for g in groups]


def opened(folder: Path, weights: str = "w", writes: bool = True) -> LogprobCache:
    kept = LogprobCache()
    kept.open(folder, weights, writes)
    return kept


def test_each_group_is_computed_once_in_whatever_order_it_comes() -> None:
    kept, reference, groups = LogprobCache(), Reference(), given_groups()
    expected = Reference()(groups)
    assert kept.get(groups[:2], reference) == expected[:2]
    assert kept.get(groups[::-1], reference) == expected[::-1]
    assert kept.get([groups[1], groups[1]], reference) == [expected[1], expected[1]]
    assert reference.asked == [*groups[:2], *groups[:1:-1]]


def test_scores_and_columns_are_no_part_of_what_was_asked() -> None:
    kept, reference, (group, *_) = LogprobCache(), Reference(), given_groups()
    kept.get([group], reference)
    kept.get([replace(group, scores=[3.0], row={"a": 1}).with_columns(x=[1.0])], reference)
    assert len(reference.asked) == 1


def test_where_the_prompt_ends_is() -> None:
    kept, reference, (group, *_) = LogprobCache(), Reference(), given_groups()
    first, *rest = group.completions[0].tokens
    other = Group([*group.prompt, first], [replace(group.completions[0], tokens=rest)])
    kept.get([group], reference)
    assert kept.get([other], reference) == Reference()([other])


def test_a_new_process_reads_what_the_last_one_wrote(tmp_path: Path) -> None:
    reference, groups = Reference(), given_groups()
    expected = opened(tmp_path).get(groups, reference)
    assert opened(tmp_path).get(groups, reference) == expected
    assert len(reference.asked) == len(groups)
    opened(tmp_path, "other weights").get(groups, reference)
    assert len(reference.asked) == 2 * len(groups)


@pytest.mark.parametrize("cut", [1, 5, 40, 300])
def test_what_a_killed_process_left_of_a_write_is_cut_off(tmp_path: Path, cut: int) -> None:
    """All of it: the rest, computed without the groups that it was computed with, has other last bits."""
    groups = given_groups()
    kept = opened(tmp_path)
    for part in (groups[:2], groups[2:]):
        kept.get(part, Reference())
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-cut])
    for again in (groups[2:], []):  # they are written again, and then found
        reference = Reference()
        assert opened(tmp_path).get(groups, reference) == Reference()(groups)
        assert reference.asked == again


def test_a_full_disk_is_told_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    kept = opened(tmp_path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*w\.logprobs"):
        kept.get(given_groups(), Reference())


def test_a_flipped_bit_is_never_read(tmp_path: Path) -> None:
    groups = given_groups()
    opened(tmp_path).get(groups, Reference())
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(bytes(data))
    assert opened(tmp_path).get(groups, Reference()) == Reference()(groups)


def test_a_rank_that_does_not_write_leaves_the_file_alone(tmp_path: Path) -> None:
    groups = given_groups()
    opened(tmp_path, writes=False).get(groups, Reference())
    assert not list(tmp_path.iterdir())


def test_the_digest_is_of_every_number_and_of_the_rest() -> None:
    weights = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    same = digest({k: v.clone() for k, v in reversed(weights.items())}, 1.0)
    assert digest(weights, 1.0) == same
    changed = {**weights, "a": torch.tensor([0.0, 1.0, 2.0, 3.0 + 2**-20])}
    assert len({same, digest(changed, 1.0), digest(weights, 0.7), digest({"a": weights["a"]}, 1.0)}) == 4


def test_the_learner_asks_its_reference_once(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, learners = given_groups(), [make_learner(tiny_model("llama")) for _ in range(2)]
    for learner in learners:
        learner.reference_folder = tmp_path / "reference"
    assert not learners[0].reference_folder.exists()  # nothing is hashed or written before it is needed
    first = learners[0].reference_logprobs(groups)
    monkeypatch.setattr(Learner, "_measure_reference", lambda *_: pytest.fail("asked again"))
    for learner in learners:
        assert learner.reference_logprobs(groups) == first


def test_what_was_sampled_never_comes_again_and_is_not_kept(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    learner.reference_logprobs(random_groups())
    assert not learner.logprob_cache._known
