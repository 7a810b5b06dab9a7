"""Files that are whole or not there: saved folders, their manifests, encryption.

For: writing aside and renaming, checksums, locks, refusing what is damaged.
In: paths and bytes. Out: the same, checked, or an `ArtefactError` that says what to do.
Not here: what the files mean; each room writes its own.
"""
