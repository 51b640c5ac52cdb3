"""Rows become hours and days, and which days are to be made again."""
