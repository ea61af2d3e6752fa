"""Wrong input as one line on the error stream, and exit codes that a shell expects."""

import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cnnjax.view.text import escape_unencodable, printable


@contextmanager
def one_line_errors() -> Generator[None, None, None]:
    """Turns wrong input into one line on the error stream and exit code 2, an interruption into 130.

    An output whose reader has gone (`| head`) is exit code 141, one that fails otherwise is an error as others are.
    With CNNJAX_TRACEBACK=1 in the environment the whole traceback is shown instead. Characters that steer the terminal,
    or that its encoding lacks, are written as escapes.
    """
    escape_unencodable()
    try:
        yield
        _finish_output()
    except KeyboardInterrupt:
        _complain("\ninterrupted; a run that has begun goes on with --resume and --run-dir FOLDER")
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
    except (ValueError, OSError, FloatingPointError, MemoryError, ImportError) as error:
        if os.environ.get("CNNJAX_TRACEBACK"):
            raise
        _complain(f"error: {printable(str(error))}")
        if not _raised_here(error):
            _complain("(raised by a library; CNNJAX_TRACEBACK=1 shows where)")
        raise SystemExit(2) from None
    finally:
        _abandon_broken_outputs()


def _finish_output() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"the output cannot be written ({error}); what was asked for is done") from None


def _complain(text: str) -> None:
    """A line on the error stream, if anybody reads it."""
    from cnnjax.train.output import Output

    if sys.stderr is not None:
        Output(sys.stderr).write(f"{text}\n")


def _abandon_broken_outputs() -> None:
    """Lets Python end in peace: what it still holds back for a broken output would be another error, and exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _raised_here(error: BaseException) -> bool:
    """Whether an error comes from this package's own checks, by the file of its innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parent.parent)
