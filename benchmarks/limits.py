"""What the rewards do not catch, each with its measured rate, on real data. Writes results/limits.json and limits.md.

    python benchmarks/limits.py SHARED_DATA [--rows 60] [--refusals FILE.csv ...]

SHARED_DATA has the folders tatqa, gsm8k, llmbar, sec and sec10q_qa; a file of refusals has the columns completion and
final_label of XSTest (github.com/paul-rottger/xstest), which is not among them.

For each reward of the library, on rows whose gold it pays, wrong answers are made as the attack makes them
(`tieout.vetting.attack`): a figure, a scale, a name changed, denied, a direction turned, another row's answer, lists
and sources copied out. One that gets 0.95 of what gold gets is counted as paid. Then: right answers in other words that
`numeric` refuses; refusals; languages; programs; identities of filings.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tieout.rewards import load_reward
from tieout.rewards.library.format import language
from tieout.rewards.library.numeric import numeric
from tieout.rewards.library.reconcile import identities
from tieout.rewards.scoring.outcomes import parameters
from tieout.rewards.scoring.runner import score
from tieout.rewards.text.refusals import refuses
from tieout.rewards.text.sentences import says_unknown, sentences
from tieout.rows.spread import spread
from tieout.tasks import load_task
from tieout.types import Row
from tieout.vetting.attack.findings import PAID
from tieout.vetting.attack.gold import read_gold
from tieout.vetting.attack.targets import fixed_probes, setting_of

RESULTS = Path(__file__).parent / "results"
UDHR = {
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
    "und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
    "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en "
    "geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
    "consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
}
"""The first article of the Universal Declaration of Human Rights."""
UNKNOWN = (
    "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och samvete och bör "
    "handla gentemot varandra i en anda av broderskap.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve birbirlerine "
    "karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai akal dan hati "
    "nurani dan hendaknya bergaul satu sama lain dalam semangat persaudaraan.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi con người đều được tạo hoá ban "
    "cho lý trí và lương tâm và cần phải đối xử với nhau trong tình bằng hữu.",
)
"""The same in Swedish, Polish, Turkish, Indonesian and Vietnamese, of which `language` knows no words."""
OTHER_WORDS: dict[str, Callable[[str], str]] = {
    "as it is": lambda gold: gold,
    "**gold**": lambda gold: f"**{gold}**",
    "The answer is gold.": lambda gold: f"The answer is {gold}.",
    "**Answer:** gold": lambda gold: f"**Answer:** {gold}",
    "<answer>\\boxed{gold}</answer>": lambda gold: f"<answer>\\boxed{{{gold}}}</answer>",
    "$\\boxed{gold}$": lambda gold: f"$\\boxed{{{gold}}}$",
    "<think></think> gold": lambda gold: f"<think></think>{gold}",
    "about gold": lambda gold: f"about {gold}",
    "gold in total": lambda gold: f"{gold} in total",
    "The change was gold.": lambda gold: f"The change was {gold}.",
}


# --- rows ---------------------------------------------------------------------------------------------------


def tatqa(data: Path) -> list[dict[str, Any]]:
    """The documents of TAT-QA's development set."""
    found: list[dict[str, Any]] = json.loads((data / "tatqa" / "tatqa_dataset_dev.json").read_text("utf-8"))
    return found


def figure_rows(data: Path) -> list[Row]:
    """Questions that one figure answers, of TAT-QA; and sums of GSM8K, with their reasoning."""
    task = load_task("numeric_qa", {"path": str(data / "tatqa" / "tatqa_dataset_dev.json")})
    assert task.gold is not None
    rows = [{**row, "completion": task.gold(row)} for split in ("train", "test") for row in task.rows(split)]
    for line in (data / "gsm8k" / "train_first_2000.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        answer = row["answer"].rpartition("####")[2].strip()
        rows.append({"prompt": row["question"], "completion": row["answer"], "answer": answer, "scale": ""})
    return rows


def span_rows(data: Path) -> list[Row]:
    """Questions of TAT-QA that one or several pieces of the document answer."""
    return [
        {
            "prompt": asked["question"],
            "answer": ", ".join(asked["answer"]),
            "completion": ", ".join(asked["answer"]),
        }
        for page in tatqa(data)
        for asked in page["questions"]
        if asked["answer_type"] in ("span", "multi-span")
    ]


def passage_rows(data: Path) -> list[Row]:
    """Those of which one sentence of one paragraph has the answer: gold is that sentence, with its citation."""
    rows: list[Row] = []
    for page in tatqa(data):
        context = [paragraph["text"] for paragraph in page["paragraphs"]]
        for asked in page["questions"]:
            if asked["answer_type"] != "span" or len(asked["answer"][0]) < 3:
                continue
            said = [
                (n, one)
                for n, text in enumerate(context, 1)
                for one in sentences(text)
                if asked["answer"][0] in one
            ]
            if len(said) == 1 and said[0][1].endswith("."):
                number, sentence = said[0]
                row = {"prompt": asked["question"], "question": asked["question"], "context": context}
                rows.append(
                    {**row, "answer": asked["answer"][0], "completion": f"{sentence[:-1]} [{number}]."}
                )
    return rows


def summary_rows(data: Path) -> list[Row]:
    """A page's paragraphs, and the first three sentences with a figure as what a summary says."""
    rows: list[Row] = []
    for page in tatqa(data):
        document = "\n".join(paragraph["text"] for paragraph in page["paragraphs"])
        told = [one for one in sentences(document) if re.search(r"\d", one) and one.endswith(".")][:3]
        if len(told) == 3:
            reference = " ".join(told)
            rows.append(
                {"prompt": document, "document": document, "reference": reference, "completion": reference}
            )
    return rows


def filings(data: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    """(filing, date, quarters) -> name -> value, of the primary statements of 17 filings."""

    def table(name: str) -> Iterator[dict[str, str]]:
        with (data / "sec" / "statements" / f"{name}.txt").open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)

    filer = {row["adsh"]: f"{row['name']} {row['form']} {row['period']}" for row in table("sub")}
    found: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for row in table("num"):
        if row["uom"] == "USD" and row["value"]:
            found[filer[row["adsh"]], row["ddate"], row["qtrs"]].setdefault(row["tag"], float(row["value"]))
    return dict(found)


def statement_rows(data: Path) -> list[Row]:
    """The figures of a filing's identities, with lines to cite."""
    rows: list[Row] = []
    for (filer, date, _), values in filings(data).items():
        named = sorted({name for one in identities(values) for name in (one.total, *one.parts)})
        if len(named) > 2:
            figures = {name: values[name] for name in named}
            lines = {name: f"{name} | {value:,.0f}" for name, value in figures.items()}
            gold = {"figures": figures, "citations": lines}
            row = {"prompt": f"{filer}, {date}", "figures": figures, "evidence": lines}
            rows.append({**row, "source": "\n".join(lines.values()), "completion": json.dumps(gold)})
    return rows


ROWS: dict[str, Callable[[Path], list[Row]]] = {
    "exact": span_rows,
    "numeric": figure_rows,
    **dict.fromkeys(("rag", "relevance", "faithfulness", "citation_accuracy"), passage_rows),
    "summary": summary_rows,
    **dict.fromkeys(("reconciled", "reconciled_ladder"), statement_rows),
}


# --- measurements -------------------------------------------------------------------------------------------


def wrong_answers(name: str, rows: Sequence[Row], count: int) -> dict[str, Any]:
    """How many wrong answers of each kind get as much as gold."""
    reward = load_reward(name)
    asked = [p.name for p in parameters(reward) if p.name in rows[0]]
    tried: Counter[str] = Counter()
    paid: Counter[str] = Counter()
    golds, unpaid, examples = [], 0, {}
    for i in spread(range(len(rows)), 3 * count):
        if len(golds) == count:
            break
        row, gold = rows[i], read_gold(rows[i], asked)
        (own,) = score(reward, [row["completion"]], [row["prompt"]], row)
        if own.score is None or own.score < 1 - 1e-6:
            unpaid += own.score is not None
            continue
        golds.append(own.score)
        probes = [
            p
            for p in fixed_probes(gold, setting_of(rows, i, asked), [], row)
            if p.basis in ("wrong", "words", "free") and p.kind != "harness"
        ]
        said = score(reward, [p.completion for p in probes], [row["prompt"]] * len(probes), row)
        for probe, outcome in zip(probes, said, strict=True):
            kind = probe.name if probe.kind == "statement" else probe.kind
            tried[kind] += 1
            if (outcome.worth or 0.0) >= PAID * own.score:
                paid[kind] += 1
                examples.setdefault(kind, [probe.name, probe.completion[:200], row["completion"][:200]])
    return {
        "rows": len(golds),
        "gold not paid in full": [unpaid, unpaid + len(golds)],
        "kinds": {kind: [paid[kind], tried[kind]] for kind in sorted(tried)},
        "examples": examples,
    }


def other_words(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Right figures in sentences and marks around them: how many `numeric` pays."""
    rows = [row for row in rows if len(row["completion"]) <= 40]
    found = {}
    for name, write in OTHER_WORDS.items():
        paid = [numeric([write(row["completion"])], [row["answer"]], [row["scale"]]) == [1.0] for row in rows]
        found[name] = [sum(paid), len(paid)]
    return found


def languages(data: Path) -> dict[str, list[int]]:
    """Texts of so many words that `language` calls English (it must not), and English ones that it does not."""
    rng, found = random.Random(0), {}
    english = [p["text"] for page in tatqa(data) for p in page["paragraphs"]]
    for size in (3, 6, 12):
        for name, texts in (
            ("another language", [*UDHR.values()]),
            ("a language without known words", UNKNOWN),
            ("annual reports", english),
        ):
            wrong = []
            for text in texts:
                given = text.split() if " " in text or texts is english else list(text)
                for _ in range(3 if texts is english else 20):
                    start = rng.randrange(max(1, len(given) - size))
                    (said,) = language([" ".join(given[start : start + size])], "en")
                    wrong.append(said is not None and (said > 0.5) != (texts is english))
            called = "not called English" if texts is english else "called English"
            found[f"{size} words of {name} {called}"] = [sum(wrong), len(wrong)]
    missed = [(said or 0.0) < 1.0 for said in language(english, "en")]
    found["paragraphs of annual reports not called wholly English"] = [sum(missed), len(missed)]
    return found


def refusals(data: Path, files: Sequence[Path]) -> dict[str, list[int]]:
    """Real answers that are called a refusal, or an answer that the source lacks it; and refusals that are not."""
    answers = []
    for name in ("Natural", "Adversarial_GPTInst"):
        for pair in json.loads((data / "llmbar" / f"{name}.json").read_text("utf-8")):
            answers += [pair["output_1"], pair["output_2"]]
    with (data / "sec10q_qa" / "qna_data.csv").open(encoding="utf-8-sig", newline="") as file:
        answers += [row["Answer"] for row in csv.DictReader(file)]
    solutions = []
    for line in (data / "gsm8k" / "labelled_completions_first_650.jsonl").read_text("utf-8").splitlines():
        solutions += [one["solution"] for one in json.loads(line).values() if isinstance(one, dict)]
    spans = [row["answer"] for row in span_rows(data)]
    found = {}
    for name, texts in (
        ("answers of assistants and on filings (LLMBar, 10-Q)", answers),
        ("solutions of models (GSM8K)", solutions),
        ("answers from annual reports (TAT-QA)", spans),
    ):
        found[f"{name}: called refusals"] = [sum(map(refuses, texts)), len(texts)]
        found[f"{name}: called not knowing"] = [sum(map(says_unknown, texts)), len(texts)]
    labelled = []
    for path in files:
        with path.open(encoding="utf-8-sig", newline="") as file:
            labelled += [(row["final_label"], row["completion"]) for row in csv.DictReader(file)]
    for label, what in (
        ("2_full_refusal", "refusals not seen"),
        ("1_full_compliance", "answers called refusals"),
    ):
        given = [text for said, text in labelled if said == label]
        wrong = sum(refuses(text) == (label == "1_full_compliance") for text in given)
        if given:
            found[f"XSTest: {what}"] = [wrong, len(given)]
    return found


def programs(count: int) -> dict[str, list[int]]:
    """Flawed programs of the task `code` that pass all of their eight tests, or seven in eight."""
    task, rng = load_task("code"), random.Random(0)
    assert task.corrupt is not None
    rows = spread(task.rows("train"), count)
    given = [
        score(load_reward("code"), [task.corrupt(row, rng)], [row["prompt"]], row)[0].score for row in rows
    ]
    shares = [share or 0.0 for share in given]
    return {
        "flawed programs that pass every test": [sum(share >= 1 for share in shares), len(shares)],
        "flawed programs that pass more than half of the tests": [
            sum(share > 0.5 for share in shares),
            len(shares),
        ],
    }


def identified(data: Path) -> dict[str, list[int]]:
    """Statements of real filings with an identity, and how many identities hold."""
    sheets = filings(data)
    balance = [v for v in sheets.values() if "Assets" in v and "StockholdersEquity" in v]
    known = [[one for one in identities(v) if len(one.parts) > 1] for v in balance]
    all_of = [(one, v) for v in sheets.values() for one in identities(v)]
    return {
        "balance sheets without any identity but assets = liabilities and equity": [
            sum(not some for some in known),
            len(known),
        ],
        "identities that do not hold": [sum(not one.holds(v) for one, v in all_of), len(all_of)],
    }


# --- report -------------------------------------------------------------------------------------------------


def share(pair: Sequence[int]) -> str:
    """`3 of 120 (2.5%)`."""
    return f"{pair[0]:,} of {pair[1]:,} ({pair[0] / pair[1]:.1%})" if pair[1] else "none tried"


def report(found: dict[str, Any]) -> str:
    """The tables of limits.md."""
    lines = [
        "# What the rewards do not catch",
        "",
        f"`python benchmarks/limits.py SHARED_DATA --rows {found['rows']}`, Python {found['python']}, "
        f"{found['seconds']:.0f} s.",
        "",
        "## Wrong answers that are paid as gold",
        "",
        "| reward | rows | kind of wrong answer | paid |",
        "|---|---|---|---|",
    ]
    for name, one in found["wrong answers"].items():
        kinds = {kind: pair for kind, pair in one["kinds"].items() if pair[0]}
        for kind, pair in kinds.items():
            lines.append(f"| `{name}` | {one['rows']} | {kind} | {share(pair)} |")
        rest = [pair for kind, pair in one["kinds"].items() if kind not in kinds]
        lines.append(f"| `{name}` | {one['rows']} | all others | {share([0, sum(n for _, n in rest)])} |")
    lines += ["", "## Right answers that are not paid in full", "", "| reward | its own gold |", "|---|---|"]
    for name, one in found["wrong answers"].items():
        lines.append(f"| `{name}` | {share(one['gold not paid in full'])} |")
    for title, key in (
        ("Right answers in other words, paid by `numeric`", "other words"),
        ("Languages", "languages"),
        ("Refusals", "refusals"),
        ("Programs (made by the task `code`; no real ones)", "programs"),
        ("Identities of 17 real filings", "identities"),
    ):
        lines += ["", f"## {title}", "", "| what | measured |", "|---|---|"]
        lines += [f"| {what.replace('|', '/')} | {share(pair)} |" for what, pair in found[key].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--refusals", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    began = time.monotonic()
    wrong = {
        name: wrong_answers(name, rows, given.rows)
        for name, rows in ((n, r(given.data)) for n, r in ROWS.items())
    }
    found: dict[str, Any] = {
        "wrong answers": wrong,
        "other words": other_words(figure_rows(given.data)),
        "languages": languages(given.data),
        "refusals": refusals(given.data, given.refusals),
        "programs": programs(given.rows),
        "identities": identified(given.data),
        "rows": given.rows,
        "python": platform.python_version(),
    }
    found["seconds"] = time.monotonic() - began
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "limits.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (RESULTS / "limits.md").write_text(report(found), "utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
