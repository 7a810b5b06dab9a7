"""The log and the catalogue: from users' own files to prepared data.

For: reading, cleaning, ids, times, titles, labels, histories, splits, and reports on them.
In: files, or data frames, of events and items. Out: `Catalog`, `History`, `Case`, `PreparedData`, findings.
Not here: anything that scores an item or knows a model.
"""
