"""What the two commands share: flags in, one sentence and status 2 for a mistake."""

import contextlib
import dataclasses
import difflib
import errno
import gc
import json
import os
import re
import select
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

import scalepred
from scalepred import config
from scalepred.config import UserError
from scalepred.runtime import invocation, preemption, steps

MACHINE_FAILED = 1
USER_MISTAKE = 2
GATE_NOT_PASSED = 3
INTERRUPTED = 130
STOPPED = 128 + signal.SIGTERM
READ_NO_MORE = 128 + signal.SIGPIPE

# Of the machine, not of ours: no space, no rights, a disk that is gone.
_DISK_ERRORS = {
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS,
    errno.ESTALE,
}  # fmt: skip
HELP = {"--help", "-h", "-help", "--helpfull"}
# Where code is that no user wrote.
_NOT_THE_USERS = (
    sysconfig.get_path("stdlib"),
    os.path.dirname(os.path.abspath(config.__file__)),
)
# What a command that was broken off leaves behind, by whether it keeps rows.
_GO_ON = {
    True: "rows written so far are kept, run the same command again to go on",
    False: "nothing is kept of it, run the same command again",
}


def run(
    name: str,
    usage: str,
    known: flags.FlagValues,
    body: Callable[[], int],
    before: Callable[[list[str]], None] = lambda argv: None,
    *,
    positional: str = "",
    keeps_rows: bool = True,
) -> None:
    """Parses the flags, runs `body` and ends the process.

    Exit status: 0 when everything asked for was done, 3 when so, but a gate was not
    passed; after a sentence on stderr 2 for a mistake of the user's, 1 when the machine
    failed (disk, device, another process), 130 when interrupted, 143 when stopped by
    SIGTERM. After 1, 130 and 143 the same command goes on.

    Args:
        name: of the command.
        usage: what --help prints.
        known: the flags of the command.
        body: does the work and gives the status; raises UserError for mistakes.
        before: looks at the arguments before they are parsed.
        positional: the flag that words alone are values of, one that may be given
            more than once; "": none.
        keeps_rows: whether the same command goes on where it was broken off.
    """

    def listening() -> int:
        # Not earlier: what is broken off while jax is imported may crash at the end.
        preemption.listen()
        return body()

    steps.show()
    more = {"positional": positional, "keeps_rows": keeps_rows}
    status = status_of(name, usage, known, listening, before, sys.argv, **more)
    _is_read_no_more()
    sys.stdout.flush()
    sys.stderr.flush()
    if status in (MACHINE_FAILED, STOPPED):
        # Threads may still compile, and other processes never come to the last
        # barrier; nobody waits for either.
        os._exit(status)
    preemption.die_silently()
    gc.freeze()  # or Python looks through all of jax for garbage once more
    sys.exit(status)


def cache_programs() -> None:
    """Keeps compiled programs on disk, so that the next start does not wait for them.

    JAX_COMPILATION_CACHE_DIR names another folder; JAX_ENABLE_COMPILATION_CACHE=0
    switches it off; JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS says what is kept.
    """
    import jax  # which takes a second, and --help has none of it

    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = os.path.join(root, "scalepred", "programs")
        jax.config.update("jax_compilation_cache_dir", folder)
    name = "jax_persistent_cache_min_compile_time_secs"
    if name.upper() not in os.environ:
        jax.config.update(name, 0.1)  # ours are many and small


def status_of(
    name: str,
    usage: str,
    known: flags.FlagValues,
    body: Callable[[], int],
    before: Callable[[list[str]], None],
    argv: list[str],
    *,
    positional: str = "",
    keeps_rows: bool = True,
) -> int:
    """Like `run`, returning the exit status."""

    def start() -> int:
        if HELP & {*argv[1:]}:
            print(usage)
            return 0
        if "--version" in argv[1:]:
            print(f"scalepred {scalepred.__version__}")
            return 0
        invocation.remember(name, argv[1:])
        try:
            before(argv)
            _parse(known, argv, positional)
            steps.begin("starting")
            cache_programs()
            return body()
        finally:
            steps.end()

    return _end_well(name, start, _GO_ON[keeps_rows])


def _end_well(name: str, body: Callable[[], int], go_on: str) -> int:
    """The status of `body`, or that of the sentence which tells how it was broken off.

    Args:
        name: of the command.
        body: gives the status, or raises.
        go_on: what is left, and what to do.
    """
    try:
        return body()
    except UserError as error:
        print(f"{name}: {_one_line(str(error))}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; {go_on}", file=sys.stderr)
        return INTERRUPTED
    except preemption.Stopped:
        print(f"{name}: stopped by SIGTERM; {go_on}", file=sys.stderr)
        from scalepred.runtime import processes

        processes.part()
        return STOPPED
    except preemption.ProcessLost as error:
        print(f"{name}: {error}; {go_on}", file=sys.stderr)
        return MACHINE_FAILED
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_read_no_more():
            return READ_NO_MORE
        if error.errno not in _DISK_ERRORS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        mend = go_on.replace(", run", ", mend that and run")
        print(f"{name}: {error.strerror}{where}; {mend}", file=sys.stderr)
        return MACHINE_FAILED
    except RuntimeError as error:
        if not _is_of_device(error):
            raise
        traceback.print_exc()
        print(
            f"{name}: a device or another process of this job failed "
            f"({_one_line(str(error))[:200]}); {go_on}",
            file=sys.stderr,
        )
        return MACHINE_FAILED


def _is_read_no_more() -> bool:
    """Whether what is printed goes nowhere, as after `| head`; nothing is told then."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # of a notebook
        return False
    look = select.poll()
    look.register(number, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0)):
        return False
    # Else Python would tell, when it ends, what it could not write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True


def _is_of_device(error: RuntimeError) -> bool:
    """Whether JAX raised it; what never imported JAX does not wait for it here."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(error, jax.errors.JaxRuntimeError)


def run_and_print(as_json: bool, body: Callable[[], "CommandResult"]) -> int:
    """Runs `body`, then prints what it gives for machines; returns the exit status.

    Args:
        as_json: one JSON object goes to stdout, and all else to stderr.
        body: does the work.
    """
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        result = body()
    if as_json:
        print(json.dumps(result.record, indent=1, allow_nan=False))
    return GATE_NOT_PASSED if result.is_gate_shut else 0


class CommandResult(NamedTuple):
    """What a command found, for machines.

    Attributes:
        record: that JSON can hold.
        is_gate_shut: a gate was not passed.
    """

    record: dict[str, Any]
    is_gate_shut: bool = False


def _parse(known: flags.FlagValues, argv: list[str], positional: str) -> None:
    """Reads the flags; every way they can be wrong becomes a UserError."""
    known.set_gnu_getopt(True)  # flags may follow a word
    try:
        rest = known(argv)
    except flags.UnrecognizedFlagError as error:
        close = difflib.get_close_matches(error.flagname, list(known), n=1)
        hint = f"did you mean --{close[0]}?" if close else "--help lists the flags"
        raise UserError(f"--{error.flagname}: there is no such flag; {hint}") from None
    except KeyError as error:  # an override of a field that the config has not
        raise UserError(_unknown_field(str(error))) from None
    except (flags.Error, TypeError, ValueError) as error:
        if "TypeError: get_config() takes 0 positional" in str(error):
            raise UserError(
                "--config: this experiment has one form; leave out the colon and what "
                "follows it"
            ) from None
        if str(error).startswith("flag --config="):
            raise UserError(_fault_of_experiment(error)) from None
        raise UserError(str(error)) from None
    except Exception as error:  # what else get_config() raises is not wrapped
        raise UserError(_fault_of_experiment(error)) from None
    words = rest[1:]
    if words and positional:
        known[positional].parse(words)
    elif words:
        raise UserError(f"{words[0]!r}: not a flag; flags are written --name=value")


def _fault_of_experiment(error: BaseException) -> str:
    """What the user's experiment file raised, and where."""
    while error.__context__ is not None:
        error = error.__context__  # it comes wrapped in others
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, AttributeError) and error.name == "get_config":
        return "--config: the file has no function get_config(); see experiments/"
    where = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *_NOT_THE_USERS))
        and "site-packages" not in frame.filename
    ]
    place = f"{where[-1][0]}, line {where[-1][1]}: " if where else ""
    remedy = "mend it there"
    if isinstance(error, ModuleNotFoundError):
        remedy = "a study needs the modules that stand beside it; copy them, too"
    return f"--config: {place}{type(error).__name__}: {error}; {remedy}"


def _unknown_field(message: str) -> str:
    """ml_collections names the dataclass; the fields it has are the remedy."""
    for pattern in (
        r"Field (?P<field>\w+) not found on dataclass <class '.*\.(?P<holder>\w+)'>",
        r"Attribute <class '.*\.(?P<holder>\w+)'>\.(?P<field>\w+) does not exist",
    ):
        found = re.search(pattern, message)
        holder = getattr(config, found["holder"], None) if found else None
        if found and holder is not None:
            names = [field.name for field in dataclasses.fields(holder)]
            close = difflib.get_close_matches(found["field"], names, n=1)
            hint = f"did you mean {close[0]}? It" if close else "it"
            return (
                f"--config: {found['holder']} has no field {found['field']!r}; {hint} "
                f"has {', '.join(names)}"
            )
    return message


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
