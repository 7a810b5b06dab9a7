"""What a sentence about one's taste asks for, in the catalogue's own words: years, categories, prices.

For: reading the constraints that a sentence states, and finding the items that meet them.
In: a sentence, the catalogue. Out: `Heard`: the constraints, the items that meet them, the rest of the sentence.
Not here: comparing the rest with items by meaning (`ranking.taste`), and filters given as options (`ranking.filters`).
"""
