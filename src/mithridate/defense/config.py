"""The settings of a P2P defense, and the two presets."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Selection = Literal["random", "agreement", "anchored", "oracle"]
Mode = Literal["replace", "union"]
Drop = Literal["nothing", "marked", "shared", "disputed"]


class P2PConfig(BaseModel):
    """How a data set is re-poisoned (Zhao et al. 2025, algorithm 1).

    Attributes:
        benign_ratio: rho, the share of D that enters the benign subset S (published: 0.2). Only
            S teaches what the model says at inference, so a small one leaves it half-trained.
        selection: How S is chosen; see `mithridate.defense.select`.
        draw_from: The share of each class's rows that the judge agrees with, the surest ones, that
            S is drawn from at random; 0 takes the very surest, which are the purest and the least
            typical.
        mode: ``replace`` puts S's re-poisoned rows in the place of S (the published code);
            ``union`` adds them to D (the published text).
        counter_triggers: Put the n-grams that mark the rows a judge disagrees with into copies of
            S's rows, labels unchanged; see `mithridate.defense.counter`. Without a judge (random
            selection) there is nothing to mine.
        inserted_triggers: Before the judge learns, look for triggers by where they stand; see
            `mithridate.defense.inserted`. Without a judge nothing is looked for.
        drop: Which suspects to leave out of D* altogether, as they would teach the backdoor to the
            other domain, and some of that carries over; see `suspects` in
            `mithridate.defense.prepare`. ``marked``: rows that hold what marks the disputed rows,
            if they are disputed themselves or hardly any row of another label holds it: what an
            inserted trigger looks like. ``shared``: those, and the rows that resemble the disputed
            rows of their label, where these have something in common that no mined trigger
            explains (`mithridate.defense.judge.resemblance`): a style. ``disputed``: the marked and
            all disputed rows. Without a judge there are no suspects.
        trigger: ``secret`` draws the benign trigger from the deployment's secret; ``published``
            uses the string of the paper's code, which every attacker knows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    benign_ratio: float = Field(default=0.4, gt=0.0, le=1.0)
    selection: Selection = "agreement"
    draw_from: float = Field(default=0.5, ge=0.0, le=1.0)
    mode: Mode = "replace"
    counter_triggers: bool = True
    inserted_triggers: bool = True
    drop: Drop = "shared"
    trigger: Literal["secret", "published"] = "secret"


PAPER = P2PConfig(
    benign_ratio=0.2,
    selection="random",
    mode="replace",
    counter_triggers=False,
    inserted_triggers=False,
    drop="nothing",
    trigger="published",
)
"""The published recipe's re-poisoning."""

DEFAULT = P2PConfig()
"""What we recommend where no trusted rows are at hand."""
