"""Who may ask the page for anything, what leaves it, and the command."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from projects import answer, judge_all, open_store, rows_of
from served import served

from tieout.cli.label import main
from tieout.labelling.journal import read_journal
from tieout.storage.jsonl import write_jsonl


def send(
    address: str, method: str, path: str, body: bytes = b"", **headers: str | None
) -> tuple[int, Any, Any]:
    """Status, headers and text; as the page sends it, other than what is given. None leaves a header out."""
    there = urlsplit(address)
    token = there.query.removeprefix("token=")
    own: dict[str, str | None] = {"Host": there.netloc, "Cookie": f"tieout_{there.port}={token}"}
    if method == "POST":
        own |= {
            "Origin": f"http://{there.netloc}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
    own |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(there.netloc, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    for name, value in own.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    return reply.status, reply.headers, reply.read().decode()


def test_only_this_page_of_this_origin_with_the_token_is_answered(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ask = json.dumps({"annotator": "anna", "count": 3}).encode()
    with served(store) as address:
        port = urlsplit(address).port
        assert send(address, "POST", "/api/next", ask)[0] == 200
        refused: list[dict[str, str | None]] = [
            {"Cookie": None},
            {"Cookie": f"tieout_{port}=guess"},
            {"Cookie": f"tieout={store.token}"},
            {"Host": f"evil.example:{port}"},  # DNS rebinding
            {"Host": "127.0.0.1"},
            {"Origin": "http://evil.example"},
            {"Origin": f"http://127.0.0.1:{port + 1}"},
            {"Origin": "null"},
            {"Origin": None},
        ]
        for headers in refused:
            assert send(address, "POST", "/api/next", ask, **headers)[0] == 403, headers
        assert send(address, "POST", "/api/next", ask, Content_Type="text/plain")[0] == 415
        assert send(address, "POST", "/api/next", ask, Content_Length="99999999")[0] == 413
        assert send(address, "POST", "/api/next", b"{")[0] == 400
        assert send(address, "GET", "/api/next")[0] == 405
        for path in ("/", "/page/page.js", "/export/all.jsonl"):
            assert send(address, "GET", path, Cookie=None)[0] == 403
            assert send(address, "GET", path, Host=f"evil.example:{port}")[0] == 403
        assert send(address, "GET", "/page/..%2fserver.py")[0] == 404
        assert send(address, "GET", f"/?token={store.token[:-1]}x", Cookie=None)[0] == 403


def test_the_token_leaves_the_address_and_nothing_from_elsewhere_is_loaded(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        status, headers, _ = send(address, "GET", f"/?token={store.token}&annotator=anna", Cookie=None)
        assert (status, headers["location"]) == (303, "/?annotator=anna")
        assert "HttpOnly" in headers["set-cookie"]
        assert "SameSite=strict" in headers["set-cookie"]
        _, headers, page = send(address, "GET", "/")
        assert "default-src 'none'" in headers["content-security-policy"]
        for name in ["page.html", *re.findall(r"/page/(\S+?)\"", page)]:
            text = send(address, "GET", f"/page/{name}")[2]
            assert "innerHTML" not in text
            assert not re.search(r"https?://(?!127)", text)


def test_what_the_page_is_given_says_nothing_of_sides_scores_or_models(tmp_path: Path) -> None:
    rows = [{**row, "chosen_score": 0.75, "model": "secret-7b"} for row in rows_of("pairs", 3)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    store = open_store(tmp_path)
    with served(store) as address:
        said = send(address, "POST", "/api/next", json.dumps({"annotator": "a", "count": 3}).encode())[2]
    assert not re.search("chosen|rejected|0.75|secret-7b|shown", said)
    assert set(json.loads(said)["items"][0]) == {
        "item",
        "round",
        "base",
        "source",
        "texts",
        "draft",
        "answer",
    }


NONSENSE: list[Any] = [
    {},
    {"item": "x"},
    {"item": 3, "round": 0, "base": 0},
    [],
    "x",
    {"item": "x", "round": 0, "base": 0, "annotator": "\n", "id": "12345678"},
]


def test_a_request_that_makes_no_sense_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    size = store.journal.path.stat().st_size
    with served(store) as address:
        for name in ("save", "draft", "undo", "unsettle", "next", "prelabel"):
            for body in NONSENSE:
                status, _, text = send(address, "POST", f"/api/{name}", json.dumps(body).encode())
                assert (status, bool(json.loads(text)["error"])) == (400, True), (name, body)
    assert store.journal.path.stat().st_size == size


def test_answers_are_saved_together_and_each_has_a_reply_of_its_own(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first, second, third = [item for item, _ in store.next("anna", 3)]
    actions: list[Any] = [
        {
            "what": "judge",
            "id": f"answer-{i:03}",
            "annotator": "anna",
            "item": item,
            "round": 0,
            "base": 0,
            "value": "a",
        }
        for i, item in enumerate((first, second, first, "nowhere", third))
    ]
    actions[4:4] = ["nonsense", {**actions[0], "what": "undo"}]
    with served(store) as address:

        def save(actions: Any) -> tuple[int, Any]:
            status, _, text = send(address, "POST", "/api/save", json.dumps({"actions": actions}).encode())
            return status, json.loads(text)

        status, said = save(actions)
        assert [reply.get("status", 200) for reply in said["replies"]] == [200, 200, 409, 400, 400, 400, 200]
        assert save(actions)[1] == said, "sent again it is the same"
        assert [save(wrong)[0] for wrong in ([], actions * 20, "a", None)] == [400] * 4
    assert status == 200
    assert [e["item"] for e in store.judgements()] == [first, second, third]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tieout", "label", *map(str, arguments)]


def test_the_command_serves_is_interrupted_and_continues(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows_of("pairs", 3))
    begun = time.monotonic()
    process = subprocess.Popen(
        command(tmp_path / "rows.jsonl", "--port", "0", "--annotator", "anna"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    seconds = time.monotonic() - begun
    found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", lines[1])
    assert found
    assert send(found[0], "POST", "/api/next", b'{"annotator": "anna", "count": 1}')[0] == 200
    second = subprocess.run(command(tmp_path / "rows.jsonl"), capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"in use by process {process.pid}" in second.stderr
    process.send_signal(signal.SIGINT)
    assert process.wait(10) in (0, 130)
    assert "rows.jsonl.labels" in lines[0]
    assert [e["what"] for e in read_journal(tmp_path / "rows.jsonl.labels" / "journal.jsonl")][-1] == "claim"
    assert seconds < 10, "it starts in a moment; a busy machine may take several"


def test_the_server_needs_no_torch() -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'yaml', 'jinja2'}"
    code = (
        f"import sys, tieout.labelling.server, tieout.cli.label; sys.exit(bool({heavy} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_command_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(Exception, match=r"needs uvicorn: pip install 'tieout\[label\]'"):
        main([str(tmp_path / "rows.jsonl")])


def test_export_and_load_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path, number=3, name="pairs.jsonl.labels")
    judge_all(store, "anna", "a")
    store.close()
    rows, out, again = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl", tmp_path / "again.jsonl"
    main([str(rows), "--export", "all", "--out", str(out)])
    main(
        [
            str(rows),
            "--folder",
            str(tmp_path / "x"),
            "--load",
            str(out),
            "--export",
            "all",
            "--out",
            str(again),
        ]
    )
    assert out.read_bytes() == again.read_bytes()
    assert "3 judgements taken in" in capsys.readouterr().out
    store = open_store(tmp_path, number=3, name="pairs.jsonl.labels")
    for item, value in zip(store.items, ("tie", "a", "skip"), strict=True):
        store.judge(answer(store, "anna", item, value))
    store.close()
    main([str(rows), "--export", "pairs", "--out", str(out)])
    assert "1 rows: " in (said := capsys.readouterr().out)
    assert "2 of 3 judged items give none: skipped, tied, or decided by no majority" in said
