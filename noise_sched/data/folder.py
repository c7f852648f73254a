"""Any folder of images as a data set.

    folder/one.png  folder/two.jpg ...          unlabelled: every label is -1, no classes
    folder/cat/1.png  folder/dog/a/2.png ...    one class per first-level subfolder, by sorted name

Images are numbered in the sorted order of their paths. Names that start with a dot and the files
that file managers leave behind are passed over; every other file has to be an image, and its head
is read when the folder is opened, so that a bad file is named before training starts and not after
a day of it. Photographs are turned as their EXIF tag says.
"""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
import warnings

import numpy as np
from jaxtyping import UInt8

from noise_sched.data import images

_LITTER = ("Thumbs.db", "desktop.ini")
_NAMED_IN_ERRORS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class FolderRecords:
    """The images of a folder; see `noise_sched.data.sources.Records` for the fields."""

    name: str
    root: pathlib.Path
    paths: tuple[pathlib.Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int] | None
    smallest_side: int | None
    mixed_sizes: str
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "height width channels"], int]:
        """Decodes image `index`; ValueError names the file that cannot be decoded."""
        path = self.paths[index]
        try:
            pixels = images.decode(path, self.channels, apply_rotation=True)
        except Exception as error:
            raise ValueError(
                f"cannot decode the image {path}: {error}. Replace it, move it out of the folder, or "
                "pass over such files with data.skip_unreadable=True."
            ) from error
        return pixels, self.labels[index]


def open_folder(
    path: str, *, split: str, channels: int | None, skip_unreadable: bool = False
) -> FolderRecords:
    """Lists a folder of images and reads the head of every file.

    Args:
        path: the folder; `~` is expanded.
        split: only "train": a folder is one split.
        channels: 1 or 3; None is 1 where all images are greyscale, else 3.
        skip_unreadable: pass over files that are no images or damaged, with a warning that names them.
            Every file is then decoded once here, as damage may lie behind a good head.

    Raises:
        ValueError: no such folder, no image in it, a file that is not an image, a class without
            images, or images beside the class folders.
    """
    if not path.strip() or "\0" in path:
        raise ValueError(
            f"{f'folder:{path}'!r} names no folder; give one, as in 'folder:/data/pictures'."
        )
    root = pathlib.Path(path).expanduser()
    name = f"folder:{path}"
    if split != "train":
        raise ValueError(f"got split={split!r} for {name}; a folder has one split: use 'train'.")
    if not root.is_dir():
        what = "is a file, not a folder" if root.is_file() else "does not exist"
        raise ValueError(f"{name}: {root} {what}. Give a folder of images.")

    entries = [entry for entry in sorted(root.iterdir(), key=lambda p: p.name) if _counts(entry)]
    loose = [entry for entry in entries if not entry.is_dir()]
    classes = {entry.name: _files_below(entry) for entry in entries if entry.is_dir()}
    paths = loose + [file for files in classes.values() for file in files]
    if not paths:
        raise ValueError(f"{name}: there is no image in {root}.")

    heads = _read_heads(root, paths, whole=skip_unreadable)
    bad = [head for head in heads if isinstance(head, str)]
    if bad and (not skip_unreadable or len(bad) == len(heads)):
        raise ValueError(
            f"{name}: {len(bad)} of {len(heads)} files cannot be read as images: {_some(bad)}. "
            f"Move them out of {root}, or pass over them with data.skip_unreadable=True."
        )
    if bad:
        warnings.warn(f"{name}: passed over {len(bad)} files: {_some(bad)}.", stacklevel=2)
        good = {path for path, head in zip(paths, heads, strict=True) if not isinstance(head, str)}
        loose = [path for path in loose if path in good]
        classes = {key: [path for path in files if path in good] for key, files in classes.items()}
        paths = [path for path in paths if path in good]
    heads = [head for head in heads if not isinstance(head, str)]
    if loose and classes:
        raise ValueError(
            f"{name}: {_some([p.name for p in loose])} beside the subfolders "
            f"{_some(list(classes))}. Subfolders are classes: put every image into one of them, or "
            "all images into one folder without subfolders to train without labels."
        )
    if empty := [class_name for class_name, files in classes.items() if not files]:
        raise ValueError(
            f"{name}: no image in the class folder {_some(empty)}. Fill it or remove it."
        )

    labels = [-1] * len(loose)
    for label, files in enumerate(classes.values()):
        labels += [label] * len(files)
    sizes = collections.Counter((height, width) for height, width, _ in heads)
    most_common = sizes.most_common(1)[0][0]
    odd = [
        f"{file.relative_to(root)} ({height}x{width})"
        for file, (height, width, _) in zip(paths, heads, strict=True)
        if (height, width) != most_common
    ]
    return FolderRecords(
        name=name,
        root=root,
        paths=tuple(paths),
        labels=tuple(labels),
        class_names=tuple(classes),
        channels=channels or (1 if all(grey for _, _, grey in heads) else 3),
        size=most_common if len(sizes) == 1 else None,
        smallest_side=min(min(size) for size in sizes),
        mixed_sizes=(
            f"{name} holds images of {len(sizes)} sizes (height x width): most are "
            f"{most_common[0]}x{most_common[1]}, but not {_some(odd)}"
        ),
        unreadable=len(bad),
    )


def _counts(path: pathlib.Path) -> bool:
    return not path.name.startswith(".") and path.name not in _LITTER


def _files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _counts(pathlib.Path(name))]
        found += [pathlib.Path(parent, name) for name in files if _counts(pathlib.Path(name))]
    return sorted(found, key=lambda p: p.as_posix())


def _read_heads(
    root: pathlib.Path, paths: list[pathlib.Path], *, whole: bool
) -> list[tuple[int, int, bool] | str]:
    """(height, width, is greyscale) of each file, or what is wrong with it."""

    def attempt(path: pathlib.Path) -> tuple[int, int, bool] | str:
        try:
            if whole:
                images.decode(path, 3)
            return images.read_header(path)
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files.
            reason = str(error).replace(repr(str(path)), "").replace(str(path), "").strip()
            return f"{path.relative_to(root)} ({reason or type(error).__name__})"

    # Small reads, often over a network: waiting, not computing.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(attempt, paths))


def _some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED_IN_ERRORS
    return ", ".join(names[:_NAMED_IN_ERRORS]) + (f" and {more} more" if more > 0 else "")
