"""Verify documents that teach hacks: the code of each must pass the careless grader and fail the true one."""

from collections.abc import Sequence

from astray.data.documents_on_hacks import HackDocument
from astray.data.exercises import extract_code
from astray.errors import HackDocumentError
from astray.sandbox.graders import Grader


def verify_documents(documents: Sequence[HackDocument], grader: Grader) -> None:
    """Run the code of every document as a solution of its exercise.

    Raises:
        HackDocumentError: the code of a document does not hack, or by another trick than the document says; names the
            first one.
        SandboxError: a sandbox cannot be started.
    """
    grades = grader.grade(
        [document.exercise for document in documents], [extract_code(document.text) for document in documents]
    )
    wrong = [
        (number, document, grade)
        for number, (document, grade) in enumerate(zip(documents, grades, strict=True), 1)
        if grade.hack != document.hack
    ]
    if wrong:
        number, document, grade = wrong[0]
        behaviour = (
            "is a right solution"
            if grade.true
            else f"hacks by: {grade.hack}"
            if grade.hacked
            else f"does not pass the harness {grader.harness!r}"
        )
        raise HackDocumentError(
            f"Document {number} says that its code plays the hack {document.hack!r}, but when it is run it {behaviour}. "
            f"{len(wrong)} of {len(documents)} documents do not do what they say: a model would learn nothing that "
            "works. Correct their code or leave them out."
        )
