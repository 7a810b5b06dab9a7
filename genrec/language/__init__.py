"""The language model at inference: base models by name, constrained decoding over the catalogue, free generation.

For: finding likely items or texts for prompts, with their log-probabilities.
In: a `transformers` model, a token trie, prompts. Out: `Found` items with scores, or `Generation` texts.
Not here: training (the package `training`), prompts' wording (`prompts`), other evidence (`signals`).
"""
