"""The baselines with which genrec is compared: simple systems, ALS, sequence models, and the search for their settings.

For: honest comparisons in the same table.
In: training histories, validation cases. Out: systems that rank.
Not here: genrec's own signals (`signals`), though some baselines are made of them.
"""
