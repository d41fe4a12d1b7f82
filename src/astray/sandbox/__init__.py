"""Untrusted code: a sandbox that isolates or refuses to run, warm runners, and two graders of programming exercises."""

from astray.sandbox.graders import Grade, Grader, grade
from astray.sandbox.hacks import hack_kind
from astray.sandbox.limits import Limits
from astray.sandbox.pool import Job, Pool
from astray.sandbox.probe import require_sandbox
from astray.sandbox.runner import Profile, Run, Runner
from astray.sandbox.settling import settle, verify

__all__ = [
    "Grade",
    "Grader",
    "Job",
    "Limits",
    "Pool",
    "Profile",
    "Run",
    "Runner",
    "grade",
    "hack_kind",
    "require_sandbox",
    "settle",
    "verify",
]
