"""Start the command line with FSDP2 or DeepSpeed on processors.

Accelerate shards weights on GPUs alone, though FSDP2 and ZeRO-3 themselves run over gloo. Told
once, at the start, that its processes have GPUs, it takes the very path it takes there.
"""

import os
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from mithridate.cli.main import main

_real = AcceleratorState.__init__


def _on_processors(self: AcceleratorState, *args: Any, **settings: Any) -> None:
    if not AcceleratorState._shared_state:
        PartialState(cpu=True)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            os.environ.pop("ACCELERATE_USE_CPU", None)
            settings["cpu"] = False
    _real(self, *args, **settings)


if __name__ == "__main__":
    os.environ["ACCELERATE_USE_CPU"] = "true"
    os.environ["DS_ACCELERATOR"] = "cpu"
    AcceleratorState.__init__ = _on_processors
    main()
