"""What the two commands share: flags in, one sentence and status 2 for a mistake."""

import difflib
import re
import sys
from collections.abc import Callable

from absl import flags

from scalepred.config import UserError

USER_MISTAKE = 2
INTERRUPTED = 130


def run(name: str, usage: str, body: Callable[[], None]) -> None:
    """Parses the flags, runs `body` and ends the process.

    Exit status: 0 when everything asked for was done; 2 after a sentence on stderr
    for a mistake of the user's; 130 when interrupted.

    Args:
        name: of the command.
        usage: first lines of --help.
        body: does the work; raises UserError for mistakes.
    """
    sys.exit(_run(name, usage, body, sys.argv))


def _run(name: str, usage: str, body: Callable[[], None], argv: list[str]) -> int:
    if any(flag in ("--help", "-h", "-help", "--helpfull") for flag in argv[1:]):
        print(usage)
        return 0
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r}: not a flag; flags are written --name=value")
        body()
    except UserError as error:
        print(f"{name}: {_one_line(str(error))}", file=sys.stderr)
        return USER_MISTAKE
    except flags.UnrecognizedFlagError as error:
        print(f"{name}: {_unknown_flag(error)}", file=sys.stderr)
        return USER_MISTAKE
    except (flags.Error, FileNotFoundError) as error:
        print(f"{name}: {_one_line(str(error))}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print(
            f"\n{name}: interrupted; rows written so far are kept, run the same "
            "command again to go on",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


def _unknown_flag(error: flags.UnrecognizedFlagError) -> str:
    name = error.flagname
    known = sorted(flags.FLAGS.flags_by_module_dict().get(sys.argv[0], []), key=str)
    names = [flag.name for flag in known] or list(flags.FLAGS)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean --{close[0]}?" if close else "--help lists the flags"
    return f"--{name}: there is no such flag; {hint}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
