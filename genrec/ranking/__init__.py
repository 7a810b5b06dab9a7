"""From evidence to one list: candidates, fitted weights, forests, filters, re-ranking.

For: choosing which items may be in a user's list, and deciding their order.
In: histories, the signals, what the language model proposes. Out: `Candidates`, weights (`Fusion`), `Ranked`.
Not here: where evidence comes from (`signals`, `language`), and why an item is shown (`explain`).
"""
