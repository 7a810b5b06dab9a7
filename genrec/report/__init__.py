"""What people look at: the HTML report, its tables and charts.

For: showing results and a run's facts in one self-contained file.
In: `Report` values. Out: HTML.
Not here: computing any figure (`evaluation`).
"""
