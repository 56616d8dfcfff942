"""Tests of what docs/ holds that can be run."""
