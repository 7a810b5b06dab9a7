"""The reason beside a recommendation: evidence, measured influence, words, and the check of the words.

For: saying why, truthfully.
In: a history, recommended items, signals, the model. Out: `Explanation` texts with what they cite.
Not here: measuring explanations over many users (`runs`).
"""
