"""The log and the catalogue: from files as people have them to prepared data.

For: reading, cleaning, ids, times, titles, labels, histories, splits, and what is said of them.
In: files, or data frames, of events and items. Out: `Catalog`, `History`, `Case`, `PreparedData`, findings.
Not here: anything that scores an item or knows a model.
"""
