"""What a model is asked and how its answer is read: one file per task, one renderer for all."""

from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import Prompt, PromptRenderer, PromptStyle, RenderedPrompts

__all__ = ["ClassificationTask", "Prompt", "PromptRenderer", "PromptStyle", "RenderedPrompts"]
