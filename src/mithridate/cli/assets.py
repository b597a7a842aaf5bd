"""``mithridate assets``: fetch and check the default model and reviews."""

from mithridate.cli._options import Json
from mithridate.cli._output import note, print_json, print_table


def assets(json: Json = False) -> None:
    """Fetch the default model and reviews, or check the ones that are there."""
    from mithridate.data.assets import ensure_assets

    found = ensure_assets(note).status
    if json:
        entries = [
            {
                "name": asset.name,
                "path": str(asset.path),
                "bytes": asset.bytes,
                "sha256": asset.sha256,
                "licence": asset.licence,
                "state": asset.state,
            }
            for asset in found
        ]
        print_json({"assets": entries})
        return
    print_table(
        "Default assets",
        ("name", "size", "licence", "state", "wheel sha256", "path"),
        [
            (
                asset.name,
                f"{asset.bytes / 1e6:.1f} MB",
                asset.licence,
                asset.state,
                asset.sha256[:12],
                str(asset.path),
            )
            for asset in found
        ],
    )
