"""Every kind of evidence but the language model: co-occurrence, neighbours, latent factors, content, popularity.

For: scoring items for histories from counts over the training log or from item vectors.
In: training histories, item vectors. Out: objects with a `score`, saved as arrays.
Not here: how much a signal counts (`ranking`), and the language model (`language`).
"""
