"""Studies of one's own: subject, arms, evaluations, seeds and claims in a YAML file, run by the same engine as the five
studies."""

from pathlib import Path

EXAMPLE_FILE = Path(__file__).parent / "example.yaml"
"""What `astray new` writes; FILE stands for the name of the file."""
