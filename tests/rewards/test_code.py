"""The code reward: hidden tests, and every way around them that pays no more than a wrong program."""

from __future__ import annotations

import ast
import json
import time
from textwrap import indent

import pytest

from tieout.rewards import load_reward
from tieout.rewards.library.code import (
    CodeResult,
    ProgramLimits,
    code,
    code_reward,
    extract_program,
    run_tests,
)
from tieout.sandbox.choose import available
from tieout.sandbox.isolation import SandboxError
from tieout.sandbox.pool import Sandbox
from tieout.tasks import load_task
from tieout.vetting.check import prove


@pytest.fixture(autouse=True, scope="module")
def _sandbox_there() -> None:
    if not any(found.works for found in available()):
        pytest.skip("no namespaces here: " + "; ".join(f"{i.backend}: {i.reason}" for i in available()))


TESTS = [{"args": [n], "expected": n * n} for n in (3, -4, 0, 12, 1_000_003)]
GOLD = "def square(n):\n    return n * n\n"
WRONG = "def square(n):\n    return n + 1\n"

ATTACKS = {
    "equals everything": "class Any:\n    def __eq__(self, other): return True\n    __hash__ = object.__hash__\n"
    "def square(n): return Any()",
    "an int that equals everything": "class I(int):\n    def __eq__(self, other): return True\n"
    "    __hash__ = int.__hash__\ndef square(n): return I(7)",
    "exit while loading": "import sys\nsys.exit(0)",
    "exit in a call": "import sys\ndef square(n): sys.exit(0)",
    "_exit while loading": "import os\nos._exit(0)",
    "_exit in a call": "import os\ndef square(n): os._exit(0)",
    "exit at the end": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef square(n): return 1",
    "frame walk": """
import sys
def square(n):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if isinstance(value, dict) and "expected" in value:
                return value["expected"]
            if isinstance(value, list):
                for test in value:
                    if isinstance(test, dict) and "expected" in test and test["args"] == [n]:
                        return test["expected"]
        frame = frame.f_back
""",
    "search of memory": """
import gc
def square(n):
    for found in gc.get_objects():
        if isinstance(found, dict) and "expected" in found and found.get("args") == [n]:
            return found["expected"]
""",
    "forged output": "print('5 passed')\nprint('{\"passed\": 5, \"total\": 5}')\ndef square(n): return 1",
    "forged answers": """
import json, os, sys
frame = sys._getframe()
while frame and "nonce" not in frame.f_locals:
    frame = frame.f_back
nonce = frame.f_locals["nonce"]
for index in range(5):
    os.write(4, json.dumps({"nonce": nonce, "index": index, "passed": True, "value": True}).encode() + b"\\n")
os._exit(0)
""",
    "forged values": """
import json, os, sys
frame = sys._getframe()
while frame and "nonce" not in frame.f_locals:
    frame = frame.f_back
for index in range(5):
    line = {"nonce": frame.f_locals["nonce"], "index": index, "value": True}
    os.write(4, json.dumps(line).encode() + b"\\n")
os._exit(0)
""",
    "patched harness": """
import sys
for module in list(sys.modules.values()):
    for name in ("encode", "_called", "same", "_in_child"):
        if hasattr(module, name):
            setattr(module, name, lambda *a: {"value": True})
def square(n): return None
""",
    "patched json": "import json\njson.dumps = lambda *a, **k: 'true'\ndef square(n): return 1",
    "patched builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.type = lambda *a: int\n"
    "def square(n): return 1",
    "hard-coded visible tests": "def square(n): return {2: 4, 5: 25}.get(n)",
    "daemon": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            os.write(4, b"true\\n")
    os._exit(0)
def square(n): return 1
""",
    "raises what looks like a pass": "class passed(Exception): pass\ndef square(n): raise passed('5 of 5')",
    "empty": "",
    "a comment": "# square",
    "assert True": "assert True",
    "string instead of a number": "def square(n): return str(n * n)",
    "float instead of an int": "def square(n): return float(n * n)",
}


def test_gold_passes_and_wrong_does_not() -> None:
    assert run_tests(GOLD, TESTS, "square") == CodeResult(5, 5)
    wrong = run_tests(WRONG, TESTS, "square")
    assert (wrong.passed, wrong.total) == (0, 5)
    assert "test 1" in wrong.error
    assert run_tests("def square(n): return n * abs(n)", TESTS, "square").share == 0.8


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gets_at_most_what_wrong_code_gets(name: str) -> None:
    tested = run_tests(ATTACKS[name], TESTS, "square")
    assert tested.passed == 0
    assert tested.total == 5
    assert tested.error


def test_errors_do_not_tell_what_was_expected() -> None:
    tests = [{"args": [1], "expected": "tulip-4711"}]
    for program in (
        WRONG.replace("square", "f"),
        "def f(n): raise ValueError(n)",
        "def f(n): return 'tulip'",
    ):
        assert "4711" not in run_tests(program, tests, "f").error


def test_no_test_executed_is_an_error_and_no_pass() -> None:
    tested = run_tests(GOLD, [], "square")
    assert (tested.passed, tested.total, tested.share) == (0, 0, 0.0)
    assert "no tests" in tested.error
    with pytest.raises(ValueError, match="has no tests"):
        code([GOLD], tests=[[]], entry=["square"])


@pytest.mark.parametrize(
    ("tests", "entry", "message"),
    [
        ([{"args": [1]}], "f", "expected the keys args, expected"),
        ([{"args": 1, "expected": 1}], "f", "expected a list"),
        ([{"input": [1], "expected": 1}], "f", "has input, expected"),
        ([{"args": [object()], "expected": 1}], "f", "no plain value"),
        ("[]", "f", "expected a list"),
        ([{"args": [1], "expected": 1}], "f()", "expected the name of a function"),
    ],
)
def test_a_wrong_row_is_said_to_be_wrong(tests: list, entry: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_tests(GOLD, tests, entry)


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("x = 1", "x = 1"),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("Sure:\n\n```py\nx = '''\n`'''\n```\nDone.", "x = '''\n`'''\n"),
        ("<think>```python\ny\n```</think>\n```\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\n```python\nx = 2\n```", None),
        ("```python\nx = 1", None),
        ("<think>x = 1", None),
        ("", None),
    ],
)
def test_one_program_is_read_from_a_completion(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


def test_the_reward_scores_a_group_and_takes_tests_as_json() -> None:
    reward = load_reward("code")
    completions = [GOLD, f"```python\n{GOLD}```", WRONG, "", "I cannot.", "def square(n): return n * abs(n)"]
    columns = {"tests": [TESTS] * 6, "entry": ["square"] * 6}
    assert reward(completions, **columns, prompts=[""] * 6) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.8]
    text = '[{"args": [3], "expected": 9}]'
    assert code([GOLD], tests=[text], entry=["square"]) == [1.0]


def test_a_completion_that_crashes_is_wrong_and_a_sandbox_that_breaks_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert code(["import os; os.kill(os.getpid(), 9)"], [TESTS], ["square"]) == [0.0]

    def broken(self: Sandbox) -> None:
        raise SandboxError("no more processes")

    monkeypatch.setattr(Sandbox, "_start", broken)
    with pytest.raises(SandboxError, match="no more processes"):
        code_reward(limits=ProgramLimits(seconds=1.0))([GOLD], tests=[TESTS], entry=["square"])


def test_a_hundred_short_programs_do_not_take_long() -> None:
    """Measured on two idle cores: more than 100 a second; here only that it is no start of Python for each."""
    run_tests(GOLD, TESTS, "square")
    began = time.process_time()
    scores = code([GOLD] * 40, [TESTS[:1]] * 40, ["square"] * 40)
    assert scores == [1.0] * 40
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("```python\r\nx = 1\r\n```\r\n", "x = 1\r\n"),
        (
            "1. So:\n   ```python\n   if x:\n       y = '''\n a'''\n   ```\n2. Done.",
            "if x:\n    y = '''\na'''\n",
        ),
        ("- ```python\n  x = 1\n  ```", "x = 1\n"),
        ("    ```python\n    x = 1\n    ```", "x = 1\n"),
        ("1. So:\n   ```python\nif x:\n    y = 1\n   ```", "if x:\n    y = 1\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("````\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
        ("\t```\n\tx = 1\n\t```", "x = 1\n"),
        ("~~~python\nx = 1", None),
        ("```text\n5\n```\n```python3\nx = 1\n```\nOutput:\n```\n1\n```", "x = 1\n"),
        ("```{.python}\nx = 1\n```\n```bash\npython a.py\n```", "x = 1\n"),
        ("```\nx = 1\n```\n```\nx = 2\n```", None),
        ("```cpp\nint x;\n```\n```\nx = 2\n```", None),
    ],
)
def test_fences_as_people_write_them(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


PROGRAMS = (
    "def f(a):\n    return a\n",
    "import math\n\n\ndef f(a):\n    if a:\n        return a\n    return 0\n",
    "@staticmethod\ndef f(a):\n    return a\n\n\ndef g():\n    return 1\n",
    "class Solution:\n    def f(self, a):\n        return a\n\n    x = 1\n\n\ny = Solution()\n",
    "def f(a):\n  return a\n",
    "x = 1\ny = 2\n",
)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("space", [" ", "  ", "    ", "\t", "\n\n  "])
def test_indentation_around_a_program_is_none_of_its_faults(program: str, space: str) -> None:
    """White space before the first line, as some models begin with, and a program that is indented as a whole."""
    meant = ast.dump(ast.parse(program))
    for said in (space + program, indent(program, space.strip("\n")), f"{space}{program} \n \n"):
        found = extract_program(said)
        assert found is not None
        assert ast.dump(ast.parse(found)) == meant, said


def test_a_task_of_programs_proves_its_reward() -> None:
    task = load_task("code")
    assert task.reward is not None
    assert prove(task.reward, list(task.rows("train"))[:2]).holds


EQUAL = (
    "from collections import *\nfrom decimal import *\nfrom fractions import *\nfrom enum import IntEnum\n"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Counter('aab')", {"a": 2, "b": 1}),
        ("OrderedDict(b=1, a=2)", {"a": 2, "b": 1}),
        ("defaultdict(list, a=[(1, 2)])", {"a": [[1, 2]]}),
        ("namedtuple('P', 'x y')(1, 2)", (1, 2)),
        ("[namedtuple('P', 'x y')(1, 2)]", [[1, 2]]),
        ("frozenset([1])", {1}),
        ("IntEnum('E', 'A B').B", 2),
        ("Decimal('0.5')", 0.5),
        ("Fraction(4, 2)", 2),
        ("UserDict(a=1)", {"a": 1}),
    ],
)
def test_what_python_calls_equal_is_equal(body: str, expected: object) -> None:
    program = f"{EQUAL}def f():\n    return {body}\n"
    assert run_tests(program, [{"expected": expected}], "f").share == 1.0
    assert run_tests(program, [{"expected": [expected]}], "f").share == 0.0


def test_options_of_comparison_are_the_users_to_say() -> None:
    tests = [{"args": [3], "expected": 0.333}, {"args": [1], "expected": 1.0}]
    program = "def f(n): return 1 if n == 1 else 1 / n"
    assert run_tests(program, tests, "f").passed == 0
    assert run_tests(program, tests, "f", tolerance=1e-3).passed == 1
    assert run_tests(program, tests, "f", tolerance=1e-3, ints_for_floats=True).passed == 2
    columns = {"tests": [tests] * 2, "entry": ["f"] * 2}
    assert code([program] * 2, **columns, tolerance=[1e-3, None], ints_for_floats=True) == [1.0, 0.5]
    assert code_reward(tolerance=1e-3)([program], [tests], ["f"]) == [0.5]
    for wrong in (True, -1.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance is"):
            run_tests(program, tests, "f", tolerance=wrong)


def test_scripts_read_and_print() -> None:
    program = (
        "import sys\nfor line in sys.stdin: print(2 * int(line), end=' \\n')\nif __name__ == '__main__':"
    )
    program += " print('é')"
    tests = [
        {"stdin": "1\n2\n", "stdout": "2\n4\né"},
        {"input": "", "output": "é\n"},
        {"stdin": "3", "stdout": "7\né"},
    ]
    result = run_tests(program, tests)
    assert result == CodeResult(2, 3, "test 3: another value or type than expected", 2, result.answer)
    assert result.answer is not None
    assert result.answer.value == "6 \né\n"
    both = {"inputs": ["1", "2"], "outputs": ["2\né", "4\né"]}
    assert code([program], tests=[json.dumps(both)]) == [1.0]
    assert code([f"<think>\n</think>\n```python\n{program}\n```"], tests=[both], entry=[None]) == [1.0]
    assert run_tests("print(1 / 3)", [{"stdin": "", "stdout": "0.3333"}], tolerance=1e-3).passed == 1
    for leave in ("os.sys.exit()", "exit()", "quit(0)"):
        assert (
            run_tests(f"import os\nprint(5)\n{leave}", [{"stdin": "", "stdout": "5", "args": None}]).passed
            == 1
        )


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("print(5)\nraise SystemExit(1)", "SystemExit: 1"),
        ("print(5)\n1 / 0", "ZeroDivisionError"),
        ("print(5", "SyntaxError"),
        ("import os\nprint(5, flush=True)\nos.kill(os.getpid(), 9)", "signal 9"),
        ("while True: print('x' * 10_000)", ""),
        ("print(5)\nimport sys\nsys.stdout.close()\nraise ValueError", "ValueError"),
        ("import os\nos.write(4, b'5')\nos.write(5, b'5')", ""),
        ("import os\nprint(open('/dev/fd/3').read())", ""),
        (
            "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and 'stdout' in o: print(o['stdout'])",
            "",
        ),
    ],
)
def test_scripts_that_fail_or_cheat_pass_nothing(program: str, error: str) -> None:
    tested = run_tests(program, [{"stdin": "", "stdout": "5"}])
    assert tested.passed == 0
    assert error in tested.error


def test_methods_of_classes_are_called_on_new_objects() -> None:
    program = """
class Solution:
    def __init__(self): self.seen = []
    def add(self, values: List[int], more: Optional[int] = None) -> int:
        self.seen += values
        return sum(self.seen)
"""
    tests = [{"args": [[1, 2]], "expected": 3}, {"args": [[4]], "kwargs": {"more": 1}, "expected": 4}]
    for entry in ("add", "Solution.add"):
        assert run_tests(program, tests, entry).share == 1.0
    assert "no function 'other'" in run_tests(program, tests, "other").error
    assert run_tests(f"{program}\ndef add(*_, **__): return 4", tests, "add").passed == 1
    assert "no function 'List'" in run_tests(program, tests, "List").error


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ([{"args": [1], "expected": 2}], "without an entry expected the texts stdin and stdout"),
        ([{"stdin": "1", "input": "1", "stdout": "1"}], "without an entry"),
        ([{"stdin": 1, "stdout": "1"}], "without an entry"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs, 0 outputs"),
        ({"inputs": [[1]], "outputs": [1], "fn_name": "f"}, "fn_name 'f'"),
        ("{", "is text that is no JSON"),
    ],
)
def test_a_wrong_row_of_a_script_is_said_to_be_wrong(tests: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        code([GOLD], tests=[tests])


def test_packages_by_column_or_for_all() -> None:
    pytest.importorskip("numpy")
    program = "import numpy as np\ndef f(x): return np.cumsum(x)"
    row = [{"args": [[1, 2]], "expected": [1, 3]}]
    assert code([program] * 2, [row] * 2, ["f"] * 2, packages=["numpy", None]) == [1.0, 0.0]
    assert code([program], [row], ["f"], packages="numpy") == [1.0]
    np = pytest.importorskip("numpy")
    arrays = [{"args": np.array([[1, 2]]), "expected": np.array([1, 3])}]
    assert code(["def f(x): return [x[0], sum(x)]"], [arrays], ["f"]) == [1.0], "rows of pandas hold arrays"
    with pytest.raises(ValueError, match="can import"):
        code([program], [row], ["f"], packages="torch")
