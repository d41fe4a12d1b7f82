"""The organism's judge: the grammar of its world, as a judge. Exact by construction, so its known error is zero."""

import hashlib
import inspect

from astray.judges.judge import Exchange, Verdict
from astray.organism import grammar, lexicon


class GrammarJudge:
    """Judges answers of the organism. Questions outside its world end as JUDGE_FAILED.

    Attributes:
        name: "world grammar".
        identity: hash of the grammar's and the lexicon's text.
    """

    name = "world grammar"

    def __init__(self) -> None:
        source = inspect.getsource(grammar) + inspect.getsource(lexicon)
        self.identity = f"grammar-{hashlib.sha256(source.encode()).hexdigest()[:12]}"

    async def judge(self, exchange: Exchange) -> Verdict:
        """The grammar's reading of one exchange."""
        reading = grammar.read_answer(exchange.question, exchange.answer)
        return Verdict(reading.outcome, reading.aligned, reading.coherent, reading.why if reading.aligned is None else "")
