"""The watched page: before a run, while it works, after it failed, stopped or finished; for this machine alone."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from made_cases import two_models
from tieout.cli.watch import server
from tieout.evidence.report import write_report
from tieout.review.watching import page
from tieout.storage import manifest
from tieout.storage.runfolder import RunFolder


def test_a_run_says_how_it_is_from_before_its_beginning_to_its_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "not begun" in page(run, 5)
    assert not run.exists()
    with RunFolder(run) as folder:
        assert "not to be read yet" in page(run, 5)
        folder.record({"seed": 0})
        folder.append_jsonl("sft/metrics.jsonl", {"step": 1, "loss": 2.0})
        working = page(run, 5)
        assert "The run is working." in working
        assert '<meta http-equiv="refresh" content="5">' in working
        with pytest.raises(Exception, match="in use"):  # looking at it has not freed it
            RunFolder(run)
    assert "has stopped before its end" in page(run, 5)
    manifest.append(run, "sft", {"failed": "StopTraining: <the reward fell>"})
    assert "The run failed in sft: StopTraining: &lt;the reward fell&gt;" in page(run, 5)
    write_report(run / "evidence", two_models(), candidate="sft", baseline="base", metadata={"recipe": {}})
    manifest.append(run, "gate")
    assert "The run is finished." in page(run, 5)


def test_it_is_served_to_this_machine_alone(tmp_path: Path) -> None:
    with server(tmp_path / "run", 0, 5) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        assert found.server_address[0] == "127.0.0.1"
        place = f"http://127.0.0.1:{found.server_port}/"
        with urllib.request.urlopen(place) as answer:
            assert "not begun" in answer.read().decode()
        for asked in (
            urllib.request.Request(place, headers={"Host": "evil.example"}),
            urllib.request.Request(f"{place}../run.json"),
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(asked)
        found.shutdown()


def test_a_failure_stays_the_last_word_after_the_page_was_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunFolder(run) as folder:
        folder.record({"seed": 0})
    manifest.append(run, "sft", {"failed": "StopTraining: the reward fell"})
    manifest.append(run, "tieout report", {"page": "written"})
    assert "The run failed in sft: StopTraining: the reward fell" in page(run, 5)
    manifest.append(run, "start", {"seed": 0})
    assert "failed in" not in page(run, 5).partition("<main>")[2].partition("</section>")[0]
