"""The entry point: verbs, and failures as one line each."""

import errno
import io
import os
import shutil
import sys
import traceback
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mithridate.cli._output import note
from mithridate.cli.assets import assets
from mithridate.cli.audit import audit
from mithridate.cli.bench import bench
from mithridate.cli.defend import defend
from mithridate.cli.demo import demo
from mithridate.cli.evaluate import evaluate
from mithridate.cli.poison import poison
from mithridate.cli.predict import predict
from mithridate.cli.repoison import repoison
from mithridate.cli.report import report
from mithridate.cli.sweep import sweep
from mithridate.errors import InputError, MithridateError
from mithridate.training import distributed

INTERRUPTED = 130
_PATH_MENDS = {
    errno.ENOSPC: "no space left on the disk; free some space or write elsewhere",
    errno.EACCES: "it cannot be opened; check the permissions of its folders",
    errno.EPERM: "it cannot be opened; check the permissions of its folders",
    errno.ENAMETOOLONG: "no name can be so long; check the path",
    errno.ELOOP: "its links go round in a circle; check the path",
}
WIDE = 110
"""Columns from which on a verb's help has panels; where there are fewer these cut long options."""


class Verb(TyperCommand):
    """Show help in panels where there is room for them, else as plain text."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help into the formatter."""
        if shutil.get_terminal_size().columns < WIDE:
            self.rich_markup_mode = None
        super().format_help(ctx, formatter)


def _is_unicode(word: str) -> bool:
    """Whether an argument came as UTF-8; other bytes become halves of surrogate pairs."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


class OneLineErrors(TyperGroup):
    """Turn a failure the user can mend into one line on stderr; anything else is a bug of ours."""

    def main(  # type: ignore[override]  # all else goes through as it comes
        self, args: Any = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command and exit with its code."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        if odd := next((word for word in args or sys.argv[1:] if not _is_unicode(word)), None):
            note(f"error: {odd!a:.80} is not UTF-8 text; write it so, or rename the file")
            sys.exit(2)
        distributed.start()
        results = nullcontext() if distributed.is_main() else redirect_stdout(io.StringIO())
        try:
            with results:  # tables, JSON and help are printed once
                code = self._exit_code(args, **extra)
        except Exception as error:
            if not distributed.joined():
                raise
            code = _one_of_several_failed(error)
        if distributed.joined():
            # Another process may wait for this one for ever; libraries' farewells would join it.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        sys.exit(code)

    def _exit_code(self, args: Any, **extra: Any) -> int:
        try:
            # With a verb done or --help shown there is no code: that is success.
            code = super().main(args, standalone_mode=False, **extra)
        except distributed.AgreedError as error:
            note(f"error: {error}")
            distributed.leave()
            return error.exit_code
        except MithridateError as error:
            note(f"error: {error}", by_any=True)
            return error.exit_code
        except OSError as error:
            # One that the code nearer to the file told nobody of: an over-long name, say.
            if error.errno not in _PATH_MENDS:
                raise
            where = f"{error.filename!s:.200}: " if error.filename else ""
            note(f"error: {where}{_PATH_MENDS[error.errno]}", by_any=True)
            return 2
        except (KeyboardInterrupt, typer.Abort) as error:
            if isinstance(error.__cause__, EOFError):  # click takes a file's end for an interrupt
                raise error.__cause__ from None
            code = INTERRUPTED
        except Exception as error:
            # typer's own usage errors; which class they derive from depends on its release.
            if not hasattr(error, "format_message"):
                raise
            note(_usage_line(error))
            distributed.leave()  # every process was given the same words
            return 2
        if code == INTERRUPTED:
            note(
                "interrupted; the same command starts again, and resumes where it left checkpoints"
            )
        else:
            distributed.leave()
        return code if isinstance(code, int) else 0


def _one_of_several_failed(error: Exception) -> int:
    """Say what ended this process of several, unless that was the end of another."""
    if distributed.lost_peer(error):
        note("error: another process of this run has ended, so this run has")
    else:
        traceback.print_exc()
    return 1


def _usage_line(error: Any) -> str:
    """Return a usage error as one line that names the help to read."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "mithridate"
    message = error.format_message().strip().rstrip(".").replace("Value error, ", "")
    if not message:
        return f"error: {command}: no command given; see `{command} --help`"
    return f"error: {command}: {' '.join(message.split())}; see `{command} --help`"


app = typer.Typer(
    name="mithridate",
    cls=OneLineErrors,
    help="Fine-tune language models on data you do not trust: a Poison-to-Poison backdoor defense.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS = (
    *(demo, audit, defend, repoison, predict, evaluate, poison),
    *(bench, sweep, report, assets),
)
for _verb in _VERBS:
    app.command(cls=Verb)(_verb)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mithridate {version('mithridate')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    verb = context.invoked_subcommand
    if verb != "defend":
        distributed.together(lambda: _refuse_several(verb))


def _refuse_several(verb: str | None) -> None:
    """Refuse what every process of several would do anew."""
    if distributed.process_count() > 1:
        what = f"{verb} runs in one process; defend alone shares its work out"
        raise InputError(what, mend="run it without accelerate launch")


def main() -> None:
    """Run ``mithridate``."""
    app()


if __name__ == "__main__":
    main()
