"""The reason beside a recommendation: evidence, measured influence, words, and the check of the words.

For: true reasons for recommendations.
In: a history, recommended items, signals, the model. Out: `Explanation` texts and the items they cite.
Not here: measuring explanations over many users (`runs`).
"""
