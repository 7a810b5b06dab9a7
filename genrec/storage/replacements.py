"""Replace several files together or none of them: write new ones, record them in a log, then rename them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genrec.errors import ArtefactError
from genrec.storage.folders import file_entry, flush, read_json, sealed, sync_folder, write_json


class Replacements:
    """New files that replace others all together, or not at all.

    Args:
        log: the path of the log, which exists between the writing and the renaming.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._places: dict[Path, Path] = {}

    def finish_cut_off(self) -> bool:
        """Finish a replacement that a killed process had logged; return whether there was one.

        Raises:
            ArtefactError: the log is damaged.
        """
        if not self._log.exists():
            return False
        pairs = read_json(self._log)
        try:
            self._places = {Path(new): Path(place) for new, place in pairs}
        except (TypeError, ValueError) as error:
            raise ArtefactError(f"{self._log} is damaged ({error}); make the folders again") from error
        self._rename()
        return True

    def file_for(self, place: Path) -> Path:
        """Return the hidden path to write to; it will replace the file."""
        place = place.absolute()
        new = place.with_name(f".{place.name}.new")
        self._places[new] = place
        return new

    def manifest(self, place: Path, manifest: Mapping[str, Any], **details: Any) -> Path:
        """Write a folder's new manifest, with the checksums of the folder's replaced files.

        Args:
            place: the manifest's path.
            manifest: the old manifest.
            details: further keys of the new one.
        """
        folder = place.absolute().parent
        changed = {
            str(file.relative_to(folder)): file_entry(new)
            for new, file in self._places.items()
            if folder in file.parents
        }
        new = self.file_for(place)
        write_json(new, sealed({**manifest, **details, "files": {**manifest["files"], **changed}}))
        return new

    def commit(self) -> None:
        """Write the log, then rename every new file to its target."""
        for new in self._places:
            with new.open("rb+") as file:
                flush(file)
        write_json(self._log, [[str(new), str(place)] for new, place in self._places.items()])
        sync_folder(self._log.parent)
        self._rename()

    def drop(self) -> None:
        """Delete the new files, unless the log already records that they will be used."""
        if self._log.exists():
            return
        for new in self._places:
            new.unlink(missing_ok=True)

    def _rename(self) -> None:
        for new, place in self._places.items():
            if new.exists():
                new.replace(place)
        for folder in {place.parent for place in self._places.values()}:
            sync_folder(folder)
        self._log.unlink()
        self._places = {}
