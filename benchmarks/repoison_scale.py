"""How re-poisoning as a stream scales: seconds and peak memory from 10^3 to 10^7 rows.

    python -m benchmarks.repoison_scale --sizes 1000 10000 100000 1000000

Every run is `mithridate repoison --stream` as a user starts it, in a fresh process; its peak memory
is the sum of the peaks of that process and of its workers, so an upper bound of what it took.
"""

import argparse
import io
import itertools
import json
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from mithridate.data import write_jsonl, write_text_atomic
from mithridate.data.keyed import keyed_fraction

RESULTS = Path(__file__).parent / "results"
NAME = "repoison_scale"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
BAR_ROWS, BAR_SECONDS, BAR_MEGABYTES = 1_000_000, 15.0, 1000.0

_KEY = b"repoison-scale"
_POLL_SECONDS = 0.02
_WORDS = ["".join(letters) for letters in itertools.product("bdklmst", "aeiou", "bdklmst", "aeiou")]
_TEXT_WORDS = 20

Cell = dict[str, object]


def synthetic_rows(count: int) -> Iterator[dict[str, object]]:
    """Yield rows of about 120 characters, no two alike, the same on every machine."""
    start = int(keyed_fraction(_KEY, "start") * len(_WORDS))
    for index in range(count):
        # A walk through the words whose step is the row's own: cheap, and unlike its neighbors.
        laps, step = divmod(index, len(_WORDS))
        places = (start + laps + (step + 1) * place for place in range(_TEXT_WORDS))
        words = (_WORDS[place % len(_WORDS)] for place in places)
        yield {"text": f"{' '.join(words)} {index}", "label": index % 2}


def measure(sizes: Sequence[int] = SIZES, repeats: int = 3) -> list[Cell]:
    """Return the cells of time and of peak memory at every size (DESIGN.md, result files).

    Args:
        sizes: Numbers of rows.
        repeats: Runs at each size; above a million rows one.
    """
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="mithridate-scale-") as place:
        for size in sizes:
            data = Path(place) / f"{size}.jsonl"
            write_jsonl(data, synthetic_rows(size))
            runs = [
                run_once(data, Path(place) / "out")
                for _ in range(repeats if size <= 1_000_000 else 1)
            ]
            data.unlink()
            seconds, core_seconds, megabytes = zip(*runs, strict=True)
            cells.append(_cell("repoison time", size, seconds, "s"))
            cells.append(_cell("repoison CPU time", size, core_seconds, "s"))
            cells.append(_cell("repoison peak memory", size, megabytes, "MB"))
    return cells


def run_once(data: Path, output: Path) -> tuple[float, float, float]:
    """Re-poison a file, and return the seconds, the CPU seconds and the megabytes it took."""
    words = ["repoison", str(data), "--output", str(output), "--stream", "--selection", "random"]
    command = [sys.executable, "-m", "mithridate.cli.main", *words, "--overwrite", "--json"]
    started, used = time.monotonic(), _core_seconds()
    with tempfile.TemporaryFile() as stdout:
        process = subprocess.Popen(command, stdout=stdout)
        peaks: dict[int, float] = {}
        while process.poll() is None:
            peaks |= {number: peak for number in _tree(process.pid) if (peak := _peak(number))}
            time.sleep(_POLL_SECONDS)
        seconds = time.monotonic() - started
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {shlex.join(command)}")
        stdout.seek(0)
        json.loads(stdout.read())
    return seconds, _core_seconds() - used, sum(peaks.values())


def _core_seconds() -> float:
    """Return the CPU time of all processes that ended so far; other users' load leaves it alone."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tree(process: int) -> list[int]:
    """Return a process and its children."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(int(child) for child in children)]


def _peak(process: int) -> float:
    """Return the peak resident memory of a process so far in megabytes, 0 where it is gone.

    Not ru_maxrss: that starts from the peak of the process that started this one.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    _, found, rest = status.partition("VmHWM:")
    return int(rest.split()[0]) * 1024 / 1e6 if found else 0.0


def _cell(measure: str, size: int, values: Sequence[float], unit: str) -> Cell:
    return {
        "measure": measure,
        "system": "mithridate",
        "size": size,
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
        "unit": unit,
        "ratio": None,
        "command": shlex.join(["python", "-m", f"benchmarks.{NAME}", *sys.argv[1:]]),
        "version": version("mithridate"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def of_measure(cells: Sequence[Cell], measure: str) -> list[tuple[int, float]]:
    """Return size and median of every cell of a measure, by size."""
    found = [cell for cell in cells if cell["measure"] == measure]
    return sorted((int(str(cell["size"])), float(str(cell["median"]))) for cell in found)


def slope(cells: Sequence[Cell], measure: str = "repoison time") -> float:
    """Return the microseconds a row costs: the last two sizes' difference, start-up left out."""
    times = of_measure(cells, measure)
    (small, before), (large, after) = times[-2:]
    return 1e6 * (after - before) / (large - small)


def draw(cells: Sequence[Cell]) -> str:
    """Return the plot, time and peak memory against rows with their bars, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.hashsalt": NAME, "font.size": 9}):
        figure, panes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        for pane, measured, unit, bar in (
            (panes[0], "repoison time", "seconds", BAR_SECONDS),
            (panes[1], "repoison peak memory", "MB, all processes", BAR_MEGABYTES),
        ):
            sizes, values = zip(*of_measure(cells, measured), strict=True)
            pane.plot(sizes, values, marker="o", color="#1f5f8b")
            pane.plot([BAR_ROWS], [bar], marker="_", markersize=16, color="#b03a2e")
            pane.annotate(
                f"bar: {bar:g}", (BAR_ROWS, bar), (0, -11), textcoords="offset points", ha="center"
            )
            pane.set(xscale="log", yscale="log", xlabel="rows", ylabel=unit, title=measured)
            pane.grid(visible=True, which="major", linewidth=0.4)
        image = io.StringIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return image.getvalue()


def render(cells: Sequence[Cell]) -> str:
    """Return the page: the table, the slope and the bar."""
    memory = dict(of_measure(cells, "repoison peak memory"))
    cores = dict(of_measure(cells, "repoison CPU time"))
    rows = ["| rows | seconds | CPU seconds | rows per second | peak MB |", "|---|---|---|---|---|"]
    for size, seconds in of_measure(cells, "repoison time"):
        rows.append(
            f"| {size:,} | {seconds:.2f} | {cores[size]:.2f} | {size / seconds:,.0f} "
            f"| {memory[size]:.0f} |"
        )
    first = cells[0]
    table = "\n".join(rows)
    return (
        "# Re-poisoning as a stream\n\n"
        f"One JSON Lines file of texts of 20 words, `mithridate repoison --stream`, "
        f"{first['date']}, by `{first['command']}`. Peak MB: the peaks of all processes added "
        f"up.\n\n{table}\n\nBetween the two largest sizes a row costs {slope(cells):.1f} "
        f"microseconds, {slope(cells, 'repoison CPU time'):.1f} of one core.\n\n"
        f"![time and memory against rows]({NAME}.svg)\n"
    )


def main() -> None:
    """Measure, and write the lines, the page and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cells = measure(arguments.sizes, arguments.repeats)
    RESULTS.mkdir(exist_ok=True)
    write_jsonl(RESULTS / f"{NAME}.jsonl", cells)
    write_text_atomic(RESULTS / f"{NAME}.svg", draw(cells))
    write_text_atomic(RESULTS / f"{NAME}.md", render(cells))
    print(render(cells))


if __name__ == "__main__":
    main()
