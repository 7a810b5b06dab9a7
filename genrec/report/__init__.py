"""Reports for readers: the HTML report, its tables and charts.

For: showing results and facts about a run in one self-contained file.
In: `Report` values. Out: HTML.
Not here: computing any figure (`evaluation`).
"""
