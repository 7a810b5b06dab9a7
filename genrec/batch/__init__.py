"""The batch job that recommends for all users: blocks of users in, rows out, resumable byte for byte.

For: the offline job, on one process, shards, or Ray workers.
In: a recommender and a stream of histories. Out: JSON Lines or Parquet shards, a job's record, notes on users.
Not here: how a list is made (`recommender`).
"""
