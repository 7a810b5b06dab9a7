"""Files that are either complete or absent: saved folders, their manifests, encryption.

For: writing to a temporary name and renaming, checksums, locks, refusing damaged files.
In: paths and bytes. Out: the same, checked, or an `ArtefactError` that says what to do.
Not here: what the files mean; each room writes its own.
"""
