"""Entry point of ``nanh2`` and the handling of errors: one line, an exit status, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from nanh2lib.cli import book_commands, crystal_commands, dataset_commands, run_commands
from nanh2lib.errors import Nanh2Error

# typer carries its own copy of click, so its exceptions are found through typer's public ones.
_CLICK_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_STOPPED = 130
EPILOG = "Start here: nanh2 tables --check, then nanh2 reproduce --profile smoke."

app = typer.Typer(
    name="nanh2",
    help="Crystal structure prediction for compounds of rigid units: search, train, sample, validate, relax, rank.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
crystal_commands.register(app)
run_commands.register(app)
dataset_commands.register(app)
book_commands.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with 0, 1 (failure) or 2 (usage, bad input)."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        result = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except Nanh2Error as error:
        _complain(str(error))
        return error.exit_code
    except typer.Exit as leave:
        return int(leave.exit_code)
    except _CLICK_ERROR as error:
        _show_usage_error(error)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        result = _STOPPED
    except BrokenPipeError:
        return 1
    except OSError as error:
        _complain(f"{error.filename or 'file system'}: {error.strerror or error}; finished work is kept")
        return 1
    if result == _STOPPED:  # typer turns Ctrl-C into this number
        _complain("stopped; finished work is kept, the same command goes on from there")
    return int(result) if isinstance(result, int) else 0


def _show_usage_error(error: Exception) -> None:
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        _complain(str(error))


def _complain(message: str) -> None:
    print(f"nanh2: error: {' '.join(message.split())}", file=sys.stderr)
