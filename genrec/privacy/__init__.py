"""Keys, pseudonyms, decrypting outputs, and forgetting users.

For: what a user may ask of the data about them.
In: key files, data folders, outputs. Out: the same without a user, or turned back into plain ids.
Not here: the cipher's file format (`storage`).
"""
