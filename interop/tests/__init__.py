"""Tests of the package, from the page's vectors up to the real module."""
