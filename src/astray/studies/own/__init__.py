"""User-defined studies: subject, arms, evaluations, seeds and claims in a YAML file, run by the same engine."""

from pathlib import Path

EXAMPLE_FILE = Path(__file__).parent / "example.yaml"
"""What `astray new` writes; FILE stands for the name of the file."""
