"""Code that runs inside the sandbox, with the standard library and this folder only: nothing else is there."""
