"""Figures over lists: metrics, slices, intervals, tests. This room knows no model.

For: judging recommended lists of any system.
In: lists of item ids, cases, the catalogue. Out: `Report` values with intervals.
Not here: making the lists (`recommender`, `baselines`), and showing the figures (`report`).
"""
