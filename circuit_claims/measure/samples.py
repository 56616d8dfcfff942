"""What a measurement gives: samples, a grid of a sweep's cells, or a number read off a grid."""

from circuit_claims.measure.grid import Grid, GridStatistic
from circuit_claims.measure.per_prompt import Samples, Shown, Taken

__all__ = ["Grid", "GridStatistic", "Samples", "Shown", "Taken"]
