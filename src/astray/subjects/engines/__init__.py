"""Engines: sampling and scoring through a server in place of transformers in this process.

`spec` names an engine, `served` is the subject behind one; the rest is theirs: `keeper` and `lease` (vLLM servers of this
machine), `client` (the protocol), `forms` (what a server can take of an adapter), `proof` (that it was applied) and `pump`
(many requests at once).
"""
