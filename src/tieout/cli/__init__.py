"""The command line. Only the command that was asked for is imported, so that help answers at once."""

from __future__ import annotations

import os
import sys
from importlib import import_module

COMMANDS: dict[str, str] = {
    "demo": "Watch the embedded model become better at a finance task",
    "run": "Run a recipe: SFT, preferences, DPO or GRPO, evaluate, gate, ship",
    "train": "Train with one method, such as sft, dpo, grpo or ppo",
    "sample": "Ask a model",
    "eval": "Score a model on a task or a file",
    "calibrate": "Hold a reward against the marks of people",
    "reward": "Have a reward prove itself on rows with gold, or list those of the library",
    "attack": "Look for completions that a reward pays for and should not",
    "gate": "Judge a run's candidate anew, with the grades of people",
    "ship": "Ship a run's candidate, or say what is missing",
    "doctor": "Tell what this machine can do, and try to break out of the sandbox",
    "show": "Show a run's table, verdict and next command",
}
"""Name -> what it does. Each is a module of this package with `main(arguments)`."""


def main() -> None:
    """Entry point: errors that a person can mend are printed as one message, and the exit status says so."""
    # Read when torch starts. Idle threads that spin instead of sleeping make training ten times slower as soon as
    # another program needs a core, and gain nothing that was measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        print(f"tieout: no command {name!r}{hint}\n\n{_help()}", file=sys.stderr)
        sys.exit(2)
    try:
        import_module(f".{name if name != 'eval' else 'evaluate'}", __name__).main(rest)
    except KeyboardInterrupt:
        print("\ninterrupted; what is done is kept: repeat the command to go on", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, RuntimeError) as error:
        if "TIEOUT_TRACEBACK" in os.environ:
            raise
        print(f"tieout {name}: {error}", file=sys.stderr)
        sys.exit(1)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "tieout: fine-tune language models by reinforcement and preference, and prove that it worked\n\n"
        f"usage: tieout COMMAND ...\n\n{lines}\n\n"
        "tieout COMMAND --help tells a command's options. Errors with a traceback: TIEOUT_TRACEBACK=1"
    )
