"""Benchmarks of the product against its floor or a rival, in the same run and alternating, since machines are noisy.

A bare time says nothing: every benchmark ends in a ratio, above 1 where the product is better.
"""

from workspace.benchmarks.measuring import Comparison, Setting, alternate, median, typical

__all__ = ["Comparison", "Setting", "alternate", "median", "typical"]
