"""How every command starts and ends: one line on a user's mistake, exit code 2."""

import errno
import os
import pathlib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGES = tuple(str(_PROJECT / name) for name in ("recap_tf", "twhin_tf", "serving"))
# A check within a traced function: autograph quotes it.
_IN_GRAPH = re.compile(r"^\s*(?:ValueError|TypeError|UserError): (.+)$", re.MULTILINE)
_MISSING = re.compile(r"missing \d+ required")
_DISK_WORDS = re.compile(
    r"No space left|quota exceeded|Read-only file system|Permission denied"
    r"|File too large|Not a directory",
    re.IGNORECASE,
)
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
}


class UserError(ValueError):
    """What the user asked for cannot be done. The message is one clear line."""


def say(text: str) -> None:
    """Tells the user on stderr, without mixing with results on stdout."""
    print(text, file=sys.stderr, flush=True)


def run_command(main: Callable[[Sequence[str] | None], None]) -> int:
    """Runs `main()`; returns the process's exit code.

    A mistake of the user's (a check of ours that failed, a missing file, a full
    disk) becomes one line on stderr and 2. Anything else is a defect of ours and
    keeps its traceback; so does everything if RECAP_TRACEBACK is set. SIGTERM ends
    the command as Ctrl-C does, so that what it has half-written is removed.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        main(None)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        message = user_message(error)
        if message is None or os.environ.get("RECAP_TRACEBACK"):
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def _interrupt(number, frame):
    raise KeyboardInterrupt


def user_message(error: BaseException) -> str | None:
    """The line to show if `error` is the user's to mend, else None."""
    if isinstance(error, UserError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        reason = _DISK.get(error.errno, error.strerror)
        return f"{error.filename}: {reason}" if error.filename else str(reason)
    text = str(error)
    quoted = _IN_GRAPH.findall(text) if "in user code:" in text else []
    if type(error).__module__.startswith("tensorflow"):
        # Autograph raises an error of its own in place of a UserError.
        return quoted[-1] if quoted else _disk_message(text)
    if isinstance(error, (ValueError, TypeError, FileNotFoundError)):
        if quoted:
            return quoted[-1]
        # Checks in our packages raise these; the same types from deep inside a
        # library are bugs and deserve their traceback.
        frames = traceback.extract_tb(error.__traceback__)
        if frames and frames[-1].filename.startswith(_PACKAGES):
            return one_line(text)
        if _MISSING.search(text) and "In call to configurable" in text:
            return one_line(text)
    # Keras and autograph raise errors of their own in place of a check's.
    return None if error.__context__ is None else user_message(error.__context__)


def _disk_message(text: str) -> str | None:
    """TensorFlow's file systems have the reason only in words."""
    found = _DISK_WORDS.search(text)
    return one_line(text) if found else None


def one_line(text: str) -> str:
    """The first line of `text`: gin appends lines of its own."""
    return text.strip().splitlines()[0] if text.strip() else text
