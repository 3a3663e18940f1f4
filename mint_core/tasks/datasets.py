"""Datasets of Hugging Face: a folder, local files, or an id of the hub. The one file that talks to `datasets`."""

from __future__ import annotations

from pathlib import Path


def is_dataset(place: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return (place / "dataset_info.json").is_file() or (place / "dataset_dict.json").is_file()
