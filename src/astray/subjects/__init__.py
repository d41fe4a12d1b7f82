"""Subjects: the models under study, how they are loaded, sampled, scored and steered.

Only names that need no heavy library are exported here; loading is `astray.subjects.subject.load_subject`, steering
`astray.subjects.intervene.intervening`, and the Inspect provider `astray.subjects.provider`.
"""

from astray.subjects.locate import resolve
from astray.subjects.registered import register
from astray.subjects.spec import Generation, Intervention, Sampling, SubjectSpec, TokenLogprob

__all__ = ["Generation", "Intervention", "Sampling", "SubjectSpec", "TokenLogprob", "register", "resolve"]
