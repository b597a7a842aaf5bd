"""``mithridate demo``: see a backdoor succeed on an undefended model and fail on a defended one."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from mithridate.cli._options import Json, Overwrite
from mithridate.cli._output import duration, note, print_json, quiet_libraries, say

LONGEST_REVIEW = 100
"""Characters: of short reviews more can be learned from in the same time."""


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the model and the report.")
    ] = Path("demo"),
    rows: Annotated[int, typer.Option(min=100, help="Reviews to fine-tune on.")] = 1200,
    test_rows: Annotated[int, typer.Option(min=20, help="Reviews to test on.")] = 400,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, hub id or name; SmolLM2-135M-Instruct if none."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all draws.")] = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """See a backdoor succeed on an undefended model and fail on a defended one, on real reviews.

    Takes about 13 minutes on 2 cores. A demo that was cut off goes on, by the same command, after
    the last model it finished.
    """
    import time

    from mithridate.cli._inputs import require_model_extra
    from mithridate.data.write import check_target, staged_folder

    check_target(output, overwrite=overwrite, inputs=[model] if model else [])
    require_model_extra()
    from mithridate.bench.demo import Demo, run_demo
    from mithridate.data.assets import default_model_folder, default_reviews
    from mithridate.report import render_terminal
    from mithridate.report.verdict import judge

    quiet_libraries()
    started = time.monotonic()
    reviews = {
        split: [row for row in found if len(row.text) <= LONGEST_REVIEW]
        for split, found in default_reviews(note).items()
    }
    prepared = Demo(
        model=model or str(default_model_folder(note)),
        train=reviews["train"][:rows],
        test=reviews["test"][:test_rows],
        seed=seed,
        command=shlex.join(["mithridate", *sys.argv[1:]]),
    )
    with staged_folder(output, resume=True, overwrite=overwrite) as folder:
        _start_over_unless_same(folder, prepared)
        try:
            report = run_demo(prepared, folder, note, name=output.name)
        except BaseException:
            if not any(folder.glob(".cell-*.json")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / ".demo").unlink()
    if json:
        print_json(report.model_dump(mode="json"))
        return
    from rich.console import Console

    Console().print(render_terminal(report))
    say(str(judge(report)))
    say(f"Took {duration(time.monotonic() - started)}. The whole story: {output}/report.html")
    say(f"Next: mithridate predict {output} 'a dull mn film' 'a joy from start to end'")


def _start_over_unless_same(folder: Path, prepared: object) -> None:
    """Forget the finished cells of an earlier, unfinished demo of other settings."""
    import hashlib
    from importlib.metadata import version

    mark = hashlib.sha256(f"{version('mithridate')} {prepared!r}".encode()).hexdigest()
    noted = folder / ".demo"
    if not noted.exists() or noted.read_text() != mark:
        for path in folder.glob(".cell-*.json"):
            path.unlink()
        noted.write_text(mark)
