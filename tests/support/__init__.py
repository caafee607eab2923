"""What tests share: small models and data sets, factories of results, references, and where things lie."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
