"""Places where steps run: this process, worker processes of this machine, tasks of a Ray cluster, jobs of Slurm.

The executor knows only what `place` says of them.
"""
