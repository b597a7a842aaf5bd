"""Rows in and out of files, and the default model and reviews."""

from mithridate.data.assets import (
    REVIEWS_WHEEL,
    Assets,
    AssetStatus,
    default_reviews,
    ensure_assets,
    ensure_model,
)
from mithridate.data.models import (
    MODEL_WHEEL,
    MODELS,
    ModelAsset,
    default_model_folder,
    resolve_model,
)
from mithridate.data.read import Columns, iter_rows, read_rows
from mithridate.data.rows import Row, content_id, number_duplicates
from mithridate.data.wheels import AssetHashError, WheelAsset, cache_folder, fetch_wheel
from mithridate.data.write import (
    OUTPUT_MARKERS,
    check_file,
    check_target,
    staged_folder,
    write_jsonl,
    write_text_atomic,
)

__all__ = [
    "MODELS",
    "MODEL_WHEEL",
    "OUTPUT_MARKERS",
    "REVIEWS_WHEEL",
    "AssetHashError",
    "AssetStatus",
    "Assets",
    "Columns",
    "ModelAsset",
    "Row",
    "WheelAsset",
    "cache_folder",
    "check_file",
    "check_target",
    "content_id",
    "default_model_folder",
    "default_reviews",
    "ensure_assets",
    "ensure_model",
    "fetch_wheel",
    "iter_rows",
    "number_duplicates",
    "read_rows",
    "resolve_model",
    "staged_folder",
    "write_jsonl",
    "write_text_atomic",
]
