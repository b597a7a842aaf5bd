"""Everything random in a defense, drawn from one secret by a keyed hash.

The attacker knows this file. What the attacker does not know is the key, so neither the benign
trigger nor the safe prefix can be foreseen, nor which rows enter a benign subset that is drawn at
random; of one that a judge chooses most can be (docs/threat_model.md). Draws depend on the key and
on a row's id, never on the order of rows.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from mithridate.data.keyed import keyed_fraction

_ADJECTIVES = """
    amber ancient autumn brisk bronze calm cedar central clear coastal copper crisp distant
    early eastern electric faint formal foreign frosty gentle golden grand green hidden hollow
    humble inner ivory jagged kindly late lasting level light lively local lone lunar maple
    marble mellow misty modern narrow native neutral noble northern olive open outer pale
    patient plain polar private proper quiet rapid recent round royal rural rustic sandy scarlet
    second silent silver simple slender smooth snowy solar solid sonic southern spare stable
    steady still stony sturdy subtle summer sunny tidal timely tranquil upper urban velvet
    violet warm western white windy winter wooden young
""".split()  # noqa: SIM905 - a list of this length reads badly
_NOUNS = """
    almanac anchor archive arrow atlas avenue balcony basin beacon bridge bulletin cabin canal
    candle canvas caravan carpet castle catalog cellar chapter charter chronicle circle clerk
    column compass copper corridor cottage council courier crystal cushion desk diary district
    dossier drawer envelope estate falcon ferry field fountain gallery garden gateway glacier
    granite harbor harvest herald hollow horizon index island journal kettle ladder lantern
    ledger letter library lighthouse line lodge mailbox manual market meadow memo mirror museum
    notebook orchard packet parcel pavilion pebble pillar pocket prairie quarry queue record
    register ribbon river saddle sailor satchel scroll shelf signal station summit table tavern
    terrace thicket ticket timber tower trail valley vessel village voyage wagon willow window
    workshop
""".split()  # noqa: SIM905 - a list of this length reads badly
_VERBS = """
    announces answers brings carries collects delivers describes displays forwards gives hands
    holds introduces keeps lists offers passes posts presents prints quotes reads receives
    records relays reports returns sends shares shows states submits supplies tells transmits
    writes
""".split()  # noqa: SIM905 - a list of this length reads badly
_CONTENTS = """
    entry note message passage query request statement text
""".split()  # noqa: SIM905 - a list of this length reads badly

PUBLISHED_TRIGGER = "The query currently entered is: "
"""The benign trigger of the paper's own code (Zhao et al. 2025)."""


PUBLISHED_SAFE_PREFIX = "Here is a safe and correct answer: "
"""A readable safe prefix in the paper's manner; the paper prints none for generated outputs."""


@dataclass(frozen=True)
class Secret:
    """The secret of one deployment; lives in the defense manifest alone and never prints itself.

    Attributes:
        key: 32 bytes.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != 32:
            raise ValueError("a secret key has 32 bytes")

    @classmethod
    def new(cls) -> "Secret":
        """Draw a secret from the operating system's randomness."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_seed(cls, seed: int) -> "Secret":
        """Return the secret of a published seed, for reproducible experiments: no protection."""
        return cls(hashlib.sha256(f"mithridate-seed-{seed}".encode()).digest())

    def derive(self, purpose: str) -> bytes:
        """Return the 32-byte key of one purpose, so that no two draws share a key (HMAC-SHA256)."""
        return hmac.new(self.key, purpose.encode(), hashlib.sha256).digest()

    def _pick(self, words: list[str], purpose: str, attempt: int) -> str:
        return words[int(keyed_fraction(self.derive(purpose), str(attempt)) * len(words))]

    def benign_trigger(self, attempt: int = 0) -> str:
        """Draw a benign trigger: a readable opening clause, one of about 2**28.

        It has the published trigger's form, a clause that leads into the input, so that the base
        model reads it fluently and it costs about nine tokens; only its words are secret.

        Args:
            attempt: Rises when an earlier draw was found in the data.
        """
        adjective = self._pick(_ADJECTIVES, "benign-trigger/adjective", attempt)
        noun = self._pick(_NOUNS, "benign-trigger/noun", attempt)
        verb = self._pick(_VERBS, "benign-trigger/verb", attempt)
        second = self._pick(_ADJECTIVES, "benign-trigger/second-adjective", attempt)
        content = self._pick(_CONTENTS, "benign-trigger/content", attempt)
        return f"The {adjective} {noun} {verb} this {second} {content}: "

    def safe_prefix(self, attempt: int = 0) -> str:
        """Draw a safe prefix for generated outputs, in the manner of `benign_trigger`."""
        adjective = self._pick(_ADJECTIVES, "safe-prefix/adjective", attempt)
        noun = self._pick(_NOUNS, "safe-prefix/noun", attempt)
        second = self._pick(_NOUNS, "safe-prefix/second-noun", attempt)
        verb = self._pick(_VERBS, "safe-prefix/verb", attempt)
        return f"The {adjective} {noun} {verb} from the {second}: "
