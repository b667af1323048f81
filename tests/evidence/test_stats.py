"""Intervals must cover, tests must hold their level, and tiny samples must not pretend."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.evidence import significance, stats

SCORES = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=1, max_size=30)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 600)


# ---- proportions


@pytest.mark.parametrize("n", [1, 2, 5, 20, 300])
@pytest.mark.parametrize(("former", "method"), [(False, "exact"), (True, "wilson")])
def test_the_interval_of_a_share_agrees_with_scipy(n: int, former: bool, method: str) -> None:
    for successes in {0, 1, n // 2, n - 1, n}:
        with stats.former(former):
            estimate = stats.proportion(successes, n)
        expected = scipy.stats.binomtest(successes, n).proportion_ci(method=method)  # type: ignore[arg-type]
        assert estimate.low == pytest.approx(expected.low, abs=1e-12)
        assert estimate.high == pytest.approx(expected.high, abs=1e-12)


def test_right_or_wrong_is_exact_unless_cases_share_a_cluster() -> None:
    values = [1.0, 0.0, 1.0, 1.0]
    assert stats.mean(values) == stats.proportion(3, 4)
    assert stats.mean(values, ["a", "b", "c", "d"]) == stats.proportion(3, 4)
    assert stats.mean(values, ["a", "a", "b", "b"]) != stats.proportion(3, 4)


# ---- coverage

POPULATIONS = {
    "graded": ([0, 0.2, 0.5, 0.7, 1], [0.1, 0.2, 0.2, 0.2, 0.3]),
    "nearly always right": ([0.0, 0.5, 0.99], [0.02, 0.02, 0.96]),
    "all or little": ([0.01, 1], [0.4, 0.6]),
}


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("n", [4, 15, 80])
@pytest.mark.parametrize("name", POPULATIONS)
def test_the_interval_of_a_mean_covers_the_truth(name: str, n: int) -> None:
    levels, weights = (np.array(x, dtype=float) for x in POPULATIONS[name])
    rng, truth, hits = np.random.default_rng(0), float(levels @ weights), 0
    for trial in range(250):
        estimate = stats.mean(rng.choice(levels, size=n, p=weights).tolist(), seed=trial)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    assert hits / 250 > 0.915  # 95%, less two and a half standard errors of 250 trials


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("n", [4, 15, 80, 300])
def test_the_interval_of_a_paired_difference_covers_the_truth(n: int) -> None:
    rng, hits = np.random.default_rng(1), 0
    for trial in range(250):
        baseline = rng.choice([0.0, 0.5, 1.0], size=n, p=[0.3, 0.3, 0.4])
        gain = rng.random(n) < 0.15
        loss = rng.random(n) < 0.05
        candidate = np.where(gain, 1.0, np.where(loss, 0.0, baseline))
        truth = 0.15 * (1 - 0.55) + 0.85 * 0.05 * (0 - 0.55)
        estimate = stats.difference(candidate.tolist(), baseline.tolist(), seed=trial)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    assert hits / 250 > 0.915


@pytest.mark.usefixtures("_quick")
def test_clusters_keep_the_coverage_that_treating_cases_as_independent_loses() -> None:
    rng, clustered, alone = np.random.default_rng(2), 0, 0
    names = [f"document {i // 8}" for i in range(240)]
    for trial in range(100):
        document = np.repeat(rng.random(30), 8)  # eight questions of a document are nearly alike
        values = np.clip(document + rng.normal(0, 0.02, 240), 0, 1).tolist()
        for clusters in (names, None):
            estimate = stats.mean(values, clusters, seed=trial)
            assert estimate.low is not None
            assert estimate.high is not None
            hit = estimate.low <= 0.5 <= estimate.high
            clustered += hit and clusters is not None
            alone += hit and clusters is None
    assert clustered / 100 > 0.9
    assert alone / 100 < 0.7


@pytest.mark.usefixtures("_quick")
def test_a_mean_near_an_end_of_the_scale_is_covered_though_documents_differ_much() -> None:
    rng, held = np.random.default_rng(1), {False: 0, True: 0}
    for trial in range(200):
        sizes = rng.integers(1, 10, 40)
        right = rng.random(sizes.sum()) < np.repeat(rng.beta(1.8, 0.2, 40), sizes)
        documents = np.repeat(np.arange(40), sizes).tolist()
        for former in held:
            with stats.former(former):
                estimate = stats.mean(right.astype(float).tolist(), documents, seed=trial)
            assert estimate.low is not None
            assert estimate.high is not None
            held[former] += estimate.low <= 0.9 <= estimate.high
    assert held[False] / 200 > 0.94
    assert held[True] / 200 < 0.94


# ---- the bootstrap


def test_it_agrees_with_scipy_where_the_sample_is_large() -> None:
    rng = np.random.default_rng(3)
    values = rng.choice([0, 0.2, 0.5, 0.7, 1.0], size=800, p=[0.2, 0.2, 0.2, 0.2, 0.2])
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", rng=4, n_resamples=4000
    ).confidence_interval
    estimate = stats.mean(values.tolist())
    assert estimate.low == pytest.approx(expected.low, abs=0.003)
    assert estimate.high == pytest.approx(expected.high, abs=0.003)


def test_clusters_of_one_are_no_clusters() -> None:
    values = [0.0, 0.2, 0.2, 1.0, 0.7]
    assert stats.mean(values, list(range(5))) == stats.mean(values)


@settings(max_examples=25)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_the_cases_changes_nothing(values: list[float], rng: object) -> None:
    shuffled = list(values)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stats.mean(shuffled) == stats.mean(values)


@settings(max_examples=25)
@given(SCORES, st.integers(0, 3))
def test_an_interval_holds_its_mean_and_stays_on_the_scale(values: list[float], seed: int) -> None:
    for estimate, lowest in (
        (stats.mean(values, seed=seed), 0),
        (stats.difference(values, values[::-1]), -1),
    ):
        assert estimate.low is not None
        assert estimate.value is not None
        assert estimate.high is not None
        assert lowest <= estimate.low <= estimate.value + 1e-12
        assert estimate.value - 1e-12 <= estimate.high <= 1
        assert estimate.n == len(values)


def test_the_seed_decides_and_nothing_else() -> None:
    values = [0.1, 0.5, 0.9, 0.3]
    assert stats.mean(values, seed=1) == stats.mean(values, seed=1)
    assert stats.mean(values, seed=1) != stats.mean(values, seed=2)


def test_pairing_is_what_makes_a_small_gain_visible() -> None:
    rng = np.random.default_rng(5)
    baseline = rng.random(200) * 0.9
    candidate = baseline + 0.05  # always a little better, among cases that differ a lot
    paired = stats.difference(candidate.tolist(), baseline.tolist())
    own, other = stats.mean(candidate.tolist()), stats.mean(baseline.tolist())
    assert paired.low is not None
    assert paired.low > 0
    assert own.low is not None
    assert other.high is not None
    assert own.low < other.high  # the two intervals overlap


# ---- tiny and perfect samples


def test_nothing_gives_nothing() -> None:
    assert stats.mean([]) == stats.Estimate(None, None, None, 0)
    assert stats.difference([], []) == stats.Estimate(None, None, None, 0)
    assert stats.proportion(0, 0).low is None
    assert stats.smallest_detectable_difference(None) is None


@pytest.mark.parametrize("value", [0.2, 0.5, 0.7])
def test_one_case_says_nothing_about_the_rest(value: float) -> None:
    one = stats.mean([value])
    assert (one.value, one.low, one.high, one.n) == (value, 0.0, 1.0, 1)


def test_one_pair_says_nothing_about_the_rest() -> None:
    one = stats.difference([1.0], [0.0])
    assert one.low is not None
    assert one.low < -0.5
    assert one.high == 1.0
    assert one.p == 0.5  # one coin, one head: mid-p


@pytest.mark.parametrize("n", [2, 5, 20, 100])
def test_a_perfect_sample_is_no_proof_of_perfection(n: int) -> None:
    same = stats.difference([1.0] * n, [1.0] * n)
    assert same.low is not None
    assert same.high is not None
    assert same.low < 0 < same.high
    larger = stats.difference([1.0] * 4 * n, [1.0] * 4 * n)
    assert larger.low is not None
    assert same.low < larger.low < 0
    # An interval must not get better because a case got worse.
    lost = stats.difference([1.0] * (n - 1) + [0.0], [1.0] * n)
    assert lost.low is not None
    assert lost.low < same.low or lost.low == -1.0


def test_a_wider_scale_is_taken_into_account() -> None:
    wide = stats.mean([0.5] * 10, bounds=(-10.0, 10.0))
    narrow = stats.mean([0.5] * 10)
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.5, -0.1])
def test_a_score_off_the_scale_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not between the bounds"):
        stats.mean([0.5, bad])


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        stats.difference([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="3 values, but 2 cluster names"):
        stats.mean([1.0, 0.0, 0.5], ["a", "b"])


# ---- McNemar


def test_mcnemar_equals_the_enumeration_of_all_tables() -> None:
    for n in range(1, 11):
        lopsided = [abs(2 * sum(coins) - n) for coins in product((0, 1), repeat=n)]
        for wins in range(n + 1):
            seen = abs(2 * wins - n)
            more, equal = sum(x > seen for x in lopsided), sum(x == seen for x in lopsided)
            assert significance.mcnemar_mid_p(wins, n - wins) == pytest.approx(
                (more + equal / 2) / 2**n, abs=1e-15
            )


def test_mcnemar_is_between_the_exact_test_and_half_of_it() -> None:
    for wins, losses in ((5, 1), (30, 12), (700, 640), (9, 0)):
        exact = scipy.stats.binomtest(wins, wins + losses).pvalue
        assert exact / 2 <= significance.mcnemar_mid_p(wins, losses) < exact
        assert significance.mcnemar_mid_p(wins, losses) == significance.mcnemar_mid_p(losses, wins)


def test_mcnemar_holds_its_level() -> None:
    for n in (6, 10, 25, 60, 200):
        size = sum(
            scipy.stats.binom.pmf(k, n, 0.5)
            for k in range(n + 1)
            if significance.mcnemar_mid_p(k, n - k) <= 0.05
        )
        assert size < 0.06


def test_mcnemar_without_evidence() -> None:
    assert significance.mcnemar_mid_p(0, 0) == 1.0
    assert significance.mcnemar_mid_p(5000, 5000) > 0.99
    assert significance.mcnemar_mid_p(3000, 2000) < 1e-40  # no overflow


# ---- Holm


@given(
    st.lists(st.sampled_from([0.001, 0.01, 0.012, 0.024, 0.026, 0.04, 0.05, 0.3]), max_size=6),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] * (len(p_values) - rank) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(significance.holm(p_values)) if p <= alpha} == rejected


def test_holm_leaves_a_single_question_alone() -> None:
    assert significance.holm([0.03]) == [0.03]
    assert significance.holm([]) == []
    with pytest.raises(ValueError, match="not a p-value"):
        significance.holm([1.2])


# ---- power


@pytest.mark.usefixtures("_quick")
def test_the_smallest_detectable_difference_is_detected_four_times_in_five() -> None:
    rng, n = np.random.default_rng(6), 250
    pilot = rng.choice([-1.0, 0.0, 1.0], size=n, p=[0.08, 0.84, 0.08])
    error = stats.difference(np.clip(pilot, 0, 1).tolist(), np.clip(-pilot, 0, 1).tolist()).standard_error
    smallest = stats.smallest_detectable_difference(error)
    assert smallest is not None
    up, down = 0.08 + smallest / 2, 0.08 - smallest / 2
    found = 0
    for trial in range(300):
        d = rng.choice([-1.0, 0.0, 1.0], size=n, p=[down, 1 - up - down, up])
        low = stats.difference(np.clip(d, 0, 1).tolist(), np.clip(-d, 0, 1).tolist(), seed=trial).low
        found += low is not None and low > 0
    assert 0.7 < found / 300 < 0.9


def test_the_smallest_detectable_difference_of_known_samples() -> None:
    for n, expected in ((200, 0.066), (969, 0.030)):  # one case in nine differs
        wins = round(n / 18)
        candidate = [1.0] * wins + [0.0] * (n - wins)
        baseline = [0.0] * wins + [1.0] * wins + [0.0] * (n - 2 * wins)
        smallest = stats.smallest_detectable_difference(stats.difference(candidate, baseline).standard_error)
        assert smallest == pytest.approx(expected, rel=0.06)


# ---- clusters that all say the same


@pytest.mark.parametrize("size", [2, 8, 50])
def test_a_perfect_sample_of_documents_is_no_surer_than_one_of_as_many_cases(size: int) -> None:
    clusters = [str(i // size) for i in range(24 * size)]
    right, wrong = [1.0] * len(clusters), [0.0] * len(clusters)
    alone = stats.mean([1.0] * 24, [str(i) for i in range(24)])
    shared = stats.mean(right, clusters)
    assert alone.low is not None
    assert shared.low is not None
    assert shared.low < alone.low + 0.06  # exact, of 24
    same = stats.difference(right, right, clusters)
    assert same.high is not None
    assert same.high > 0.1
    assert stats.difference(right, wrong, clusters).low < 0.9  # type: ignore[operator]
