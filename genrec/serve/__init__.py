"""The HTTP service and the store of live events: lists for one user at once, with events a second old.

For: a shop's pages that request a list at every visit, with their existing clients.
In: a recommender and a store (SQLite or PostgreSQL). Out: JSON over HTTP, and a page to try it.
Not here: making a list (`recommender`); lists for all users (`batch`).
"""
