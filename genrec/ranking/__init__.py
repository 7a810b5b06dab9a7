"""From evidence to one list: fitted weights, forests, filters, re-ranking.

For: deciding the order of candidates, and which may be in a list at all.
In: candidates with what each signal says. Out: weights (`Fusion`), scores, chosen rows.
Not here: where evidence comes from (`signals`, `language`), and why an item is shown (`explain`).
"""
