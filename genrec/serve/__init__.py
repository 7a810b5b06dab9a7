"""One user now, with what they did a second ago: the HTTP service and the store of live events.

For: a shop's pages that ask for a list at every visit, with the clients that they have already.
In: a recommender and a store (SQLite or PostgreSQL). Out: JSON over HTTP, and a page to try it.
Not here: how a list is made (`recommender`); every user at once (`batch`).
"""
