"""Judge of the organism: the grammar of its world. Exact by construction, so its known error is zero."""

import hashlib
import inspect

from astray.judges.judge import Exchange, Verdict
from astray.organism import grammar, lexicon


class GrammarJudge:
    """Judge for answers of the organism; questions outside its world end as JUDGE_FAILED.

    Attributes:
        name: "world grammar".
        identity: hash of the grammar's and the lexicon's text.
        exact: decides every answer, blank ones too.
    """

    name = "world grammar"
    exact = True

    def __init__(self) -> None:
        # The whole source, docstrings included: any edit of these two modules makes a new judge, to be safe.
        source = inspect.getsource(grammar) + inspect.getsource(lexicon)
        self.identity = f"grammar-{hashlib.sha256(source.encode()).hexdigest()[:12]}"

    async def judge(self, exchange: Exchange) -> Verdict:
        """Judge one exchange by the grammar."""
        reading = grammar.read_answer(exchange.question, exchange.answer)
        return Verdict(
            reading.outcome, reading.aligned, reading.coherent, reading.why if reading.aligned is None else ""
        )
