"""Passport of judges: what of a verdict is the answer's, and what the judge's, the wording's and chance's."""
