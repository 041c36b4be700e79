"""docs/results.md and its pictures, from the CSVs beside it: ``tables``, ``plots``, ``sheets``."""
