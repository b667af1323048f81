"""The command line. Only the command that was asked for is imported, so that help answers at once."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from ..errors import InputError, StopTraining, TieoutError

GROUPS: dict[str, dict[str, str]] = {
    "Start": {
        "demo": "Watch the embedded model improve on a finance task",
        "advise": "Say which method to take for your rows, by rule, with reasons and a recipe",
        "init": "Write a recipe, a reward with its test, and rows to start from; or a recipe for your own rows",
        "doctor": "Check a recipe before it runs; or show what this machine can do, and attack its sandbox",
    },
    "Prepare rows and rewards": {
        "tasks": "List the tasks of the library, or show one with a real row",
        "rewards": "List the rewards of the library, or show one with its signature",
        "reward": "Check a reward on rows whose right answer is known: `tieout reward check`",
        "attack": "Search for completions that a reward pays for and should not",
        "calibrate": "Calibrate a reward against human labels",
        "label": "Label on a local page: pairs, rankings, grades, spans; or the human track of a run",
        "prefer": "Make preference pairs: sample a model, and let a reward or a judge choose",
        "pairs": "Measure the quality of preference pairs: gaps, noise, copies, lengths, leakage",
    },
    "Train": {
        "run": "Run a recipe: check a reward, train with any methods, evaluate, gate, ship",
        "plan": "Say what a recipe will need before it runs: steps, memory, time, and whether it fits",
        "train": "Train with one method, such as sft, dpo, grpo or ppo",
        "watch": "Show the report page of a run while it trains",
    },
    "Judge": {
        "sample": "Ask a model: a prompt, or the prompts of a file",
        "eval": "Score models on the same held-out rows, with 95% intervals of scores and differences",
        "best-of": "Take the best of N samples by a reward: a curve over N, cost, and which N to take",
        "optimize-prompt": "Search for a better prompt by a reward, and measure it on rows that chose nothing",
        "compare": "Compare all models of a recipe in one table: score, cost, time, needs; and say which one to take",
        "show": "Show a run's table, verdict and next command",
        "report": "Write the report page of a run from what is stored in its folder",
        "diff": "Compare two runs: what changed, what that did, and whether re-validation is due",
        "gate": "Judge a run's candidate again, with human grades",
        "verify": "Check that a run's evidence is intact, and recompute it from what is stored",
    },
    "Ship": {
        "merge": "Fold an adapter into its base, and check that the merged model does what the adapter did",
        "ship": "Ship a run's candidate, or say what is missing",
    },
}
"""What people do -> the commands for it, in the order in which they are needed."""
COMMANDS: dict[str, str] = {name: text for group in GROUPS.values() for name, text in group.items()}
"""Name -> what it does. Each is a module of this package with `main(arguments)`."""
MODULES = {"eval": "evaluate", "best-of": "best_of", "optimize-prompt": "optimize_prompt"}
"""Commands whose module has another name."""

_BUG = (
    "an unexpected error. If the traceback ends in a file of your own, the error is there. Otherwise please report "
    "this as a bug in tieout, with the traceback above and the output of `tieout doctor`"
)


def _instead(name: str) -> str:
    """What does here what a command of another tool does, or the command that was meant; in words, or nothing."""
    from difflib import get_close_matches

    from ..config.elsewhere import COMMANDS as OTHERS
    from ..config.method_table import TABLE

    if name in TABLE:
        return f": tieout train {name}"
    near = get_close_matches(name, COMMANDS, n=1)
    return f": {OTHERS[name]}" if name in OTHERS else f"; did you mean {near[0]!r}?" if near else ""


def main() -> None:
    """Entry point. Exit status: 0 done, 1 an explained error, 2 wrong usage, 3 an alarm stopped the training, 70 a bug,
    130 interrupted, 141 nobody reads the output any more."""
    # Read when torch starts. Idle threads that spin instead of sleeping make training ten times slower as soon as
    # another program needs a core, and gain nothing that was measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, TextIOWrapper):  # a sign that its encoding lacks ends no command after its work
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        sys.exit(0 if arguments else 2)
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"tieout {version('tieout')}")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"tieout: no command {name!r}{_instead(name)}\n\n{_help()}", file=sys.stderr)
        sys.exit(2)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # ignored under nohup
            signal.signal(number, _interrupt)
    try:
        _refuse_undecoded(rest)
        warnings.formatwarning = _warning
        import_module(f".{MODULES.get(name, name)}", __name__).main(rest)
    except KeyboardInterrupt as error:
        by = f" by {error}" if str(error) else ""
        with suppress(OSError):  # the terminal may be gone
            print(f"\ninterrupted{by}; what is done is kept: repeat the command to resume", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sys.exit(141 if isinstance(error, BrokenPipeError) and _reader_left() else _failed(name, error))


def _warning(message: Warning | str, *_: object, **__: object) -> str:
    """A warning without the line of code that it came from."""
    return f"warning: {message}\n"


def _refuse_undecoded(words: Sequence[str]) -> None:
    """InputError: an argument, or the folder that relative paths are in, is no text in the locale's encoding; or the
    folder is gone."""
    try:
        here = os.getcwd()
    except FileNotFoundError as error:
        raise InputError(
            "the working folder was deleted, and relative paths are in it: cd to one that exists"
        ) from error
    for what, given in [*(("argument", word) for word in words), ("the working folder", here)]:
        if any("\ud800" <= sign <= "\udfff" for sign in given):
            raise InputError(
                f"{what} {given!r} holds bytes that are no text in {sys.getfilesystemencoding()}, so it can be kept in "
                "no file: rename it, or set LC_ALL=C.UTF-8 if it is UTF-8"
            )


def _reader_left() -> bool:
    """Whether what read the output has ended, as in `tieout train grpo --help | head`: then there is nobody to tell."""
    import select

    watch = select.poll()
    watch.register(sys.stdout, 0)  # asks for nothing: errors and hang-ups are always told
    if not watch.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
    return True


def _interrupt(number: int, _: object) -> NoReturn:
    """End as Ctrl-C does, so that locks, workers and temporary folders are cleared away, and say so."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _failed(command: str, error: Exception) -> int:
    """Print an error as its kind deserves; returns the exit status."""
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
    explained = isinstance(error, TieoutError | OSError) or out_of_memory
    if not explained or "TIEOUT_TRACEBACK" in os.environ:
        from traceback import print_exception

        print_exception(error)
    if explained:
        said = f"out of memory: {error}" if out_of_memory else _place(error) or str(error)
        print(f"tieout {command}: {said or type(error).__name__}", file=sys.stderr)
        return 3 if isinstance(error, StopTraining) else 1
    print(f"\ntieout {command}: {_BUG}", file=sys.stderr)
    return 70


def _place(error: Exception) -> str:
    """What is wrong with a path that was given, and what is expected; empty for other errors."""
    kinds = {
        IsADirectoryError: "is a folder; expected a file",
        NotADirectoryError: "cannot be: a part of this path is a file; expected folders",
        FileExistsError: "is there already; give another name",
        PermissionError: "may not be read or written by this user; give a place of your own",
    }
    said = kinds.get(type(error)) if isinstance(error, OSError) and error.filename else None
    return f"{error.filename} {said}" if said and isinstance(error, OSError) else ""


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n\n".join(
        "\n".join([group, *(f"  {name:<{width}}  {text}" for name, text in own.items())])
        for group, own in GROUPS.items()
    )
    return (
        "tieout: fine-tune language models by reinforcement and preference, and prove that it worked\n\n"
        f"usage: tieout COMMAND ...\n\n{lines}\n\n"
        "tieout COMMAND --help shows a command's options. Errors with a traceback: TIEOUT_TRACEBACK=1"
    )
