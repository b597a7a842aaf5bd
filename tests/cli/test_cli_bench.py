"""``mithridate bench`` through the command line."""

import json


def test_the_plan_can_be_shown_once_a_cell_is_finished(cli, write_config, tmp_path):
    config, out = write_config(defenses=["none", "prune"]), tmp_path / "out"
    assert cli("bench", config, "-o", out, "--only", "/none/").exit_code == 0
    result = cli("bench", config, "-o", out, "--dry-run", "--json")
    assert result.exit_code == 0, result.exception
    plan = json.loads(result.stdout)["cells"]
    assert [(cell["state"], cell["measured"]) for cell in plan] == [("done", True), ("open", False)]
