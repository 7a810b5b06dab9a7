"""Run folders: training into one, tuning, growing and evaluating one, loading a recommender from one.

For: everything that reads or writes a finished run as a whole.
In: prepared data, recipes, run folders. Out: run folders, recommenders, reports.
Not here: the command line (`cli`), and the training loop itself (the package `training`).
"""
