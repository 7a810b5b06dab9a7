"""Keys, pseudonyms, decrypting outputs, and forgetting users.

For: protecting the data about users, and removing it on request.
In: key files, data folders, outputs. Out: the same without a user, or turned back into plain ids.
Not here: the cipher's file format (`storage`).
"""
