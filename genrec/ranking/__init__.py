"""From evidence to one list: candidates, fitted weights, forests, filters, re-ranking.

For: choosing which items may be in a user's list, and deciding their order.
In: histories, the signals, the language model's proposals. Out: `Candidates`, weights (`Fusion`), `Ranked`.
Not here: the sources of evidence (`signals`, `language`), and the reasons for an item (`explain`).
"""
