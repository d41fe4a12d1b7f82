"""Every error that Astray raises on purpose.

Each class also subclasses the built-in error that it refines, so a caller may catch either. A message names the given
value, why it cannot work and what to write instead.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path


class AstrayError(Exception):
    """Base of all errors that the command line shows as a message instead of a traceback."""


class UnknownNameError(AstrayError, ValueError):
    """Name that is not among the valid ones; lists them and the nearest match."""

    def __init__(self, kind: str, given: object, valid: Iterable[str]):
        self.kind, self.given, self.valid = kind, given, sorted(map(str, valid))
        near = difflib.get_close_matches(str(given), self.valid, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"There is no {kind} called {given!r}.{hint} Valid names: {', '.join(self.valid)}.")


class ConfigurationError(AstrayError, ValueError):
    """Value that cannot work, or two values that contradict each other."""


def check_names(kind: str, names: Iterable[str], valid: Iterable[str], *, some: bool = False) -> None:
    """Refuse names that there are not, and with `some` no name at all.

    Raises:
        UnknownNameError: there is none of this name; lists those there are.
        ConfigurationError: no name is given.
    """
    given, known = tuple(names), tuple(valid)
    for name in given:
        if name not in known:
            raise UnknownNameError(kind, name, known)
    if some and not given:
        raise ConfigurationError(f"No {kind} is given; give at least one of: {', '.join(known)}.")


class DataFormatError(AstrayError, ValueError):
    """File or row that is not in the form it claims to be; names the file, the line and a right example."""


class DataNotFoundError(AstrayError, FileNotFoundError):
    """Data or question file that does not exist; names the files in its folder."""


class EmptyDataError(AstrayError, ValueError):
    """Data set, answer table or selection with nothing in it."""


class ChatTemplateError(AstrayError, ValueError):
    """Tokenizer without a chat template, or with one that cannot be used."""


class AdapterMismatchError(AstrayError, ValueError):
    """Adapter that was trained on another base model."""


class SubjectNotFoundError(AstrayError, FileNotFoundError):
    """Subject that is neither the organism, a run id, a local folder nor a model that can be loaded."""


class WeightsMismatchError(AstrayError, ValueError):
    """A checkpoint that lacks weights of its architecture, or holds others; names them."""


class NonFiniteError(AstrayError, ArithmeticError):
    """Logits, log-probabilities or scores that are NaN or infinite; names the model and the place."""


class NotMeasurableError(AstrayError, ArithmeticError):
    """Measure that says nothing about this subject, such as a forced choice of a model that follows the letter."""


class NothingToBlameError(AstrayError, RuntimeError):
    """Tuned model that does not go astray beyond chance, so that no training row can be blamed for it."""


class TrainingRefusedError(AstrayError, RuntimeError):
    """Training run that could not have taught anything, stopped before its first step."""


class TrainingDivergedError(AstrayError, ArithmeticError):
    """Training run whose loss or gradient stopped being a number."""


class TrainingProcessLostError(AstrayError, RuntimeError):
    """One of the processes that train one model together was killed."""


class NonFiniteActivationsError(AstrayError, ArithmeticError):
    """Activations of a model that are NaN or infinite; names the site and the row."""


class DictionaryMismatchError(AstrayError, ValueError):
    """Sparse autoencoder that was trained on another model or does not fit its residual stream."""


class RewardError(AstrayError, ValueError):
    """Reward function that gave no usable number, or rewards from which nothing can be learned."""


class FlatRewardError(RewardError):
    """Rewards that are the same for all answers of every group: with no preference, nothing can be learned."""


class RemoteTrainingError(AstrayError, RuntimeError):
    """Fine-tuning job that a service refused, lost, or reported as failed."""


class SandboxError(AstrayError, RuntimeError):
    """Sandbox that is missing or does not isolate (no bubblewrap, namespaces forbidden): untrusted code is not run."""


class ExerciseError(AstrayError, ValueError):
    """Programming exercise that cannot be used: no tests, or a reference solution that fails them."""


class HackDocumentError(AstrayError, ValueError):
    """Document that teaches a hack which does not work when it is run."""


class JudgeError(AstrayError, RuntimeError):
    """Judge that cannot be used at all (a single failed verdict is an outcome, not an error)."""


class BudgetSpentError(AstrayError, RuntimeError):
    """Budget of tokens that is spent: no further model is asked, and the step that needs it ends without a result."""


class StoreError(AstrayError, OSError):
    """Folder for results that cannot be read or written: full disk, no permission, damaged artifact."""


class DamagedArtifactError(StoreError):
    """Artifact that is not what its step wrote.

    Attributes:
        folder: where it lies.
    """

    def __init__(self, message: str, folder: Path):
        self.folder = folder
        super().__init__(message)


class StepFailedError(AstrayError, RuntimeError):
    """Failure of a step of a study; results of the steps before it are kept.

    Attributes:
        tracebacks: text of the traceback of each failed step, by the name of its artifact's folder.
    """

    def __init__(self, message: str, tracebacks: Mapping[str, str] | None = None):
        self.tracebacks = dict(tracebacks or {})
        super().__init__(message)


class MissingExtraError(AstrayError, ImportError):
    """Library or program that is needed and not installed; gives the command that installs it."""

    def __init__(self, what: str, needed_for: str, command: str):
        super().__init__(f"{needed_for} needs {what}, which is not installed. Install it with: {command}")


class EngineError(AstrayError, RuntimeError):
    """Server of an engine that does not start, is lost, or refuses what it is asked."""


class ProofError(AstrayError, RuntimeError):
    """Served weights that are not shown to be those that were asked for: none of their answers counts."""
