"""Configs: each file's head is its command and its expected result. Nothing of the package is imported."""
