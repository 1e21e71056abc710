"""Scores of a measure against the gap, and how sure they are: pure functions of arrays; neither files nor torch."""
