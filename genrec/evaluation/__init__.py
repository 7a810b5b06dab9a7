"""Figures over lists: metrics, slices, intervals, tests. It knows no model.

For: judging recommended lists, whoever made them.
In: lists of item ids, cases, the catalogue. Out: `Report` values with intervals.
Not here: making the lists (`recommender`, `baselines`), and showing the figures (`report`).
"""
