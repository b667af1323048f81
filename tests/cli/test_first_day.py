"""A first day on the command line: 200 rows of one's own and a small model become a tuned adapter, a verdict, a server.

Every line is what a person types, in the order of README and `--help`; what people answer on the label page goes over
its HTTP interface. The model is a copy of the embedded one, under a name of its own: a folder, as anybody's.
"""

from __future__ import annotations

import http.client
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tieout import embedded
from tieout.cli import main
from tieout.storage.jsonl import read_json, read_jsonl
from tieout.tasks import load_task

MAKERS, COLOURS = ("Acme", "Borel", "Cintas", "Danaher"), ("red", "blue", "green", "white", "black")
ANSWER = re.compile(r"(\w+) sells (\w+) boxes")


def row(i: int) -> dict[str, Any]:
    maker, colour = MAKERS[i % 4], COLOURS[i // 4 % 5]
    said = f"Note {i}: {maker} sells {colour} boxes. Maker and colour as JSON?"
    answer = json.dumps({"maker": maker, "colour": colour})
    return {"prompt": [{"role": "user", "content": said}], "completion": answer}


def write(name: str, rows: Any) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def tieout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], int]:
    """Call the command line with what is typed, in a folder of one's own; returns the status."""
    monkeypatch.chdir(tmp_path)

    def call(typed: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tieout", *shlex.split(typed)])
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        return 0

    return call


@contextmanager
def label_page(run: str) -> Iterator[Callable[[str, dict[str, Any]], Any]]:
    """`tieout label RUN`, ended by Ctrl+C; what its page sends and is told."""
    typed = f"{sys.executable} -m tieout label {run} --port 0 --overlap 0 --repeats 0"
    with subprocess.Popen(shlex.split(typed), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", "".join(islice(process.stdout, 2)))
        assert found
        there = urlsplit(found[0])
        cookie = f"tieout_{there.port}={there.query.removeprefix('token=')}"

        def send(name: str, body: dict[str, Any]) -> Any:
            connection = http.client.HTTPConnection(there.netloc, timeout=60)
            headers = {
                "Content-Type": "application/json",
                "Cookie": cookie,
                "Origin": f"http://{there.netloc}",
            }
            connection.request("POST", f"/api/{name}", json.dumps(body), headers)
            reply = connection.getresponse()
            assert reply.status == 200, reply.read()
            return json.loads(reply.read())

        yield send
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


def better(source: str, texts: list[str]) -> str:
    """What somebody answers who reads the note: the completion that says what it says."""
    found = ANSWER.search(source)
    assert found
    right = [all(f'"{word}"' in text for word in found.groups()) for text in texts]
    return "tie" if right[0] == right[1] else "ab"[right.index(True)]


def grade(run: str) -> int:
    """Grade every pair of the run on its page; returns how many were asked."""
    asked = 0
    with label_page(run) as send:
        while items := send("next", {"annotator": "anna", "count": 20})["items"]:
            actions = [
                {"what": "judge", "annotator": "anna", "id": f"answer-{asked + i:06}", "seconds": 2.0}
                | {name: one[name] for name in ("item", "round", "base")}
                | {"value": better(one["source"]["text"], [text["text"] for text in one["texts"]])}
                for i, one in enumerate(items)
            ]
            assert all("error" not in reply for reply in send("save", {"actions": actions})["replies"])
            asked += len(items)
    return asked


@pytest.mark.slow
def test_a_first_day(tieout: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(Path(embedded.__file__).parent / "tieout_base", "my-model")
    write("mine.jsonl", map(row, range(200)))
    write("test.jsonl", map(row, range(200, 230)))
    known = [one for one in load_task("controls").rows("test") if one["skill"] == "definitions"]
    write("controls.jsonl", known)

    assert tieout("init mine --data mine.jsonl --model my-model") == 0
    recipe = Path("mine/recipe.yaml")
    text = recipe.read_text()
    for was, now in [
        ("# test: held_out.jsonl ", "test: test.jsonl #"),
        ("# controls: controls.jsonl ", "controls: controls.jsonl "),
        ("  # - train: grpo ", "  - train: grpo "),
        ("  #   max_new_tokens", "    epochs: 0.05\n    group_size: 4\n    max_new_tokens"),
    ]:
        assert was in text, text
        text = text.replace(was, now)
    recipe.write_text(text.replace("max_new_tokens: 128", "max_new_tokens: 32"))
    assert tieout("reward check mine/reward.py:right --data mine.jsonl") == 0
    assert tieout("attack mine/reward.py:right --data mine.jsonl") == 0
    assert tieout("run mine/recipe.yaml --out runs/mine") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "verdict: hold" in said
    assert "tieout label runs/mine" in said
    assert "tieout ship RUN --model sft" in said, said[-3000:]

    assert tieout("report runs/mine") == 0
    assert "Is grpo better than sft?" in Path("runs/mine/evidence/report.html").read_text()
    rows = [row for _, row in read_jsonl(Path("runs/mine/evidence/human/sheet.jsonl"))]
    assert grade("runs/mine") == sum(one["output_a"] != one["output_b"] for one in rows)
    assert tieout("gate runs/mine --human runs/mine/labels") in (3, 4), "grpo is no better than sft"
    assert tieout("ship runs/mine --model sft --review mine/review.yaml") == 1, "nothing is filled in"
    assert "monitoring.metric: The number that is watched" in capsys.readouterr().err
    filled_in(Path("mine/review.yaml"))
    assert tieout("ship runs/mine --model sft --review mine/review.yaml") == 0, capsys.readouterr()
    assert read_json(Path("runs/mine/evidence/report.json"))["verdict"]["verdict"] == "ship"
    assert tieout("verify runs/mine") == 0
    for told in (Path("runs/mine/evidence/report.html"), Path("runs/mine/shipped/README.md")):
        assert "rule was changed after models had been evaluated" in told.read_text(), (
            "it was chosen by its result"
        )

    uses(Path("runs/mine/shipped"))


def filled_in(review: Path) -> None:
    """Answer what the form asks, each by what follows its key."""
    names = {
        "owner": "A. Owner",
        "developer": "D. Developer",
        "validator": "V. Validator",
        "prohibited_uses": "[prices]",
    }
    lines = []
    for line in review.read_text().splitlines():
        key, colon, _ = line.partition(":")
        told = names.get(key.strip(), f"what we say of {key.strip()}")
        asked = colon and not line.lstrip().startswith("#") and key != "monitoring" and "limits" not in key
        lines.append(f"{key}: {told}" if asked else line)
    review.write_text("\n".join(lines))


def uses(shipped: Path) -> None:
    """Each line of the card that says how the model is used, as far as it can be here."""
    card = (shipped / "README.md").read_text()
    codes = [
        code for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "from_pretrained" in code
    ]
    assert len(codes) == 2
    assert run_codes(codes, shipped) == [row(204)["completion"]] * 2
    (merged, gguf), (adapter,) = (
        block.splitlines() for block in re.findall(r"```sh\n(.*?)\n```", card, re.DOTALL)
    )
    served = ["vllm", "serve", "merged", "--served-model-name", "my-model-sft"]
    assert shlex.split(merged) == served
    assert gguf == "python llama.cpp/convert_hf_to_gguf.py merged --outfile my-model-sft.gguf"
    typed = shlex.split(adapter)
    assert Path(typed[2]).samefile("my-model")
    assert typed[3:] == ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", "my-model-sft=adapter"]
    for part in ("merged", "adapter"):
        assert {"tokenizer.json", "tokenizer_config.json"} <= {one.name for one in (shipped / part).iterdir()}
    convertible(read_json(shipped / "merged" / "config.json"))


def run_codes(codes: list[str], folder: Path) -> list[str]:
    """Run a card's codes where the card lies, in a process without tieout, and ask each model a note."""
    ask = (
        "\nassert 'tieout' not in sys.modules\n"
        f"prompt = tokenizer.apply_chat_template({row(204)['prompt']!r}, add_generation_prompt=True, "
        "return_tensors='pt', return_dict=True)\n"
        "out = model.generate(**prompt, max_new_tokens=32, do_sample=False)\n"
        "print(tokenizer.decode(out[0, prompt['input_ids'].shape[1]:], skip_special_tokens=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *(f"{code}{ask}" for code in codes)])],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def convertible(config: dict[str, Any]) -> None:
    """The architecture is one that llama.cpp has a name for."""
    gguf = pytest.importorskip("gguf")
    assert config["model_type"] in gguf.MODEL_ARCH_NAMES.values()
