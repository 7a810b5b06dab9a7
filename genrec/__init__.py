"""genrec: a generative LLM recommender."""
