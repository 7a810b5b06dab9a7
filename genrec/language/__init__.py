"""The language model at work: base models by name, decoding under the catalogue's constraint, free generation.

For: prompts as tokens in, likely items or texts out, with their log-probabilities.
In: a `transformers` model, a token trie, prompts. Out: `Found` items with scores, or `Generation` texts.
Not here: training (the package `training`), prompts' wording (`prompts`), other evidence (`signals`).
"""
