"""The options of a model on a server, and opening a defended model here or there."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mithridate.cli._inputs import require_engine_extra, require_model_extra
from mithridate.cli._options import LoadOptions
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.inference.defended import DefendedModel
    from mithridate.inference.engine_client import Engine

_ENGINE = "Engine"


@dataclass(frozen=True)
class EngineOptions:
    """Where the model runs."""

    engine: Annotated[
        Literal["local", "vllm", "openai"],
        typer.Option(
            help="local: in this process; vllm: on a vLLM server; openai: on any server that "
            "echoes prompts with their log probabilities. The key comes from "
            "MITHRIDATE_ENGINE_KEY.",
            rich_help_panel=_ENGINE,
        ),
    ] = "local"
    engine_url: Annotated[
        str | None,
        typer.Option(
            help="The server's API, such as http://localhost:8000/v1.", rich_help_panel=_ENGINE
        ),
    ] = None
    engine_model: Annotated[
        str | None,
        typer.Option(help="The fine-tuned model's name there.", rich_help_panel=_ENGINE),
    ] = None
    engine_concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Requests at a time.", rich_help_panel=_ENGINE)
    ] = 4
    engine_timeout: Annotated[
        float,
        typer.Option(
            min=0.1, max=86400, help="Seconds to wait for an answer.", rich_help_panel=_ENGINE
        ),
    ] = 120.0

    def facts(self) -> dict[str, str | None]:
        """Return what a result says of the engine."""
        return {"engine": self.engine, "engine_model": self.engine_model}

    def named(self, model: str | None) -> "EngineOptions":
        """Return the same server's options for another model."""
        return replace(self, engine_model=model)


def check_engine(options: EngineOptions, load: LoadOptions) -> None:
    """Refuse options that do not go together, and an environment that lacks what they need.

    Raises:
        InputError: An option has no part in the engine, or is missing.
        MithridateError: A library is missing.
    """
    if options.engine == "local":
        for name in ("engine_url", "engine_model"):
            if getattr(options, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag} needs a server", mend="add --engine vllm")
        require_model_extra()
        return
    if options.engine_url is None:
        what = f"--engine {options.engine} needs a server"
        raise InputError(what, mend="give its address with --engine-url")
    if load.precision is not None:
        raise InputError("--precision has no part in a server's model", mend="leave it out")
    # transformers advises to install torch when it finds none, and here none is needed.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    require_engine_extra()


def open_model(
    folder: Path, model: str | None, load: LoadOptions, options: EngineOptions
) -> "DefendedModel":
    """Return a defended model: loaded here, or reached on its server."""
    from mithridate.inference.defended import DefendedModel

    engine = engine_of(options)
    if engine is None:
        return DefendedModel.load(
            folder, model=model, precision=load.precision, trust_remote_code=load.trust_remote_code
        )
    return DefendedModel.connect(
        folder, engine, model=model, trust_remote_code=load.trust_remote_code
    )


def engine_of(options: EngineOptions) -> "Engine | None":
    """Return the server that the options name; ``None`` for this process."""
    from mithridate.inference.engine_client import KEY_VARIABLE, Engine

    if options.engine == "local" or options.engine_url is None:
        return None
    return Engine(
        url=options.engine_url,
        model=options.engine_model,
        protocol=options.engine,
        key=os.environ.get(KEY_VARIABLE),
        timeout=options.engine_timeout,
        concurrency=options.engine_concurrency,
    )
