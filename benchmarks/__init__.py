"""Measurements: `micro.py` of the protocol core, `python -m benchmarks` of whole servers against their peers."""
