"""Find the image and mask pairs of a folder by layout patterns."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from pals_jax.data.archives import File
from pals_jax.data.errors import DataError, some

_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # what Python makes of the bytes of such a file name
EXTENSIONS = "bmp|gif|jfif|jp2|jpe?g|p[bgp]m|png|tiff?|webp"


F = TypeVar("F", bound=File)


class Pair(NamedTuple, Generic[F]):
    """One labelled image, on disk or in an archive."""

    id: str
    image: F
    mask: F


def scan(root: str | Path, images: str, masks: str, split: str) -> list[Pair[Path]]:
    """Lists the pairs of one split, sorted by id.

    A layout pattern is a path below root that holds `{id}` once and may hold `{split}`, such as
    "{split}/{id}.jpg". An id may contain "/". A pattern that ends in ".*" takes any image
    extension. A file that both patterns match is a mask. Hidden files and
    folders are skipped.

    Args:
      root: the data set's folder (config.data.root).
      images: layout of the images (config.data.images).
      masks: layout of the masks (config.data.masks).
      split: what `{split}` stands for.

    Returns:
      The pairs; every image has a mask and the reverse.

    Raises:
      DataError: root or the split's folder is missing, nothing matches, an id occurs twice or is
        not UTF-8, or images and masks do not pair up. The text lists what is there.
    """
    if not str(root):
        raise DataError("config.data.root is empty: set --config.data.root=FOLDER.")
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(
            f"config.data.root: there is no folder {root.absolute()}; say where the images are "
            "with --config.data.root=FOLDER."
        )
    for field, pattern in (("images", images), ("masks", masks)):
        leftover = pattern.replace("{split}", "").replace("{id}", "", 1)
        inside = not pattern.startswith("/") and "../" not in pattern
        if "{id}" not in pattern or set("{}") & set(leftover) or not inside:
            raise DataError(
                f"config.data.{field}={pattern!r}: a layout is a path below the root that holds "
                "{id} once, may hold {split}, and no other braces."
            )
    if images == masks:
        raise DataError(f"config.data.images and config.data.masks are both {images!r}.")

    mask_files = _match_once(root, masks, split)
    image_files = _match_once(root, images, split, excluded=mask_files.values())
    foreign = [
        repr(str(path))  # can be printed, unlike the path itself
        for files in (image_files, mask_files)
        for key, path in sorted(files.items())
        if _NOT_UTF_8.search(key)
    ]
    if foreign:  # the id is stored as UTF-8
        raise DataError(
            f"split {split!r}: names that are not UTF-8 (old zip files hold such): "
            f"{some(foreign)}. Please rename these files or folders."
        )
    unmasked = sorted(image_files.keys() - mask_files.keys())
    imageless = sorted(mask_files.keys() - image_files.keys())
    gone = [path for path in (*image_files.values(), *mask_files.values()) if not path.exists()]
    problems = []
    if gone:
        problems.append(f"links to files that are gone: {some(map(str, sorted(gone)))}")
    if unmasked:
        problems.append(f"images without a mask ({masks!r}): {some(unmasked)}")
    if imageless:
        problems.append(f"masks without an image ({images!r}): {some(imageless)}")
    if problems:
        raise DataError(f"{root}, split {split!r}: " + "; ".join(problems) + ".")
    return [Pair(key, image_files[key], mask_files[key]) for key in sorted(image_files)]


def find_images(root: Path, images: str, masks: str, split: str) -> dict[str, list[Path]]:
    """The image files of one split by their ids, with masks or without; see `scan`."""
    mask_files = {path for paths in find_masks(root, masks, split).values() for path in paths}
    return _match(root, images, split, excluded=mask_files)[0]


def find_masks(root: Path, masks: str, split: str) -> dict[str, list[Path]]:
    """The mask files of one split by the ids of their images; see `scan`."""
    return _match(root, masks, split)[0]


def list_images(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """The image files below a folder and its other files, by their extensions, both sorted; hidden
    files and folders are skipped.

    Raises:
      DataError: the folder is missing or holds no image.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        found = "is a file; give its folder" if folder.is_file() else "does not exist"
        raise DataError(f"the folder {folder} {found}.")
    files = sorted(_files(folder))
    images = [path for path in files if re.fullmatch(rf"\.(?i:{EXTENSIONS})", path.suffix)]
    if not images:
        present = some(sorted(path.relative_to(folder).as_posix() for path in files)) or "nothing"
        raise DataError(f"{folder} holds no image; there is: {present}.")
    return images, sorted(set(files) - set(images))


def _match_once(
    root: Path, pattern: str, split: str, excluded: Iterable[Path] = ()
) -> dict[str, Path]:
    """The file below root that matches a layout pattern, by id."""
    folder = folder_of(root, pattern, split)
    if not folder.is_dir():
        present = some(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise DataError(
            f"split {split!r}: there is no folder {folder} (layout {pattern!r}); {root} holds: "
            f"{present}. Choose splits with config.data.train_split and config.eval.split, a "
            "layout with config.data.images and config.data.masks; or, to evaluate on a part of "
            "the training images, set config.data.dev=0.2 and config.eval.split=dev."
        )
    found, seen = _match(root, pattern, split, excluded)
    if not found:
        raise DataError(
            f"split {split!r}: no file matches the layout {pattern!r} below {root}; there is: "
            f"{some(sorted(seen)) or 'nothing'}."
        )
    twice = [some(map(str, sorted(paths))) for paths in found.values() if len(paths) > 1]
    if twice:
        raise DataError(f"split {split!r}: files that share an id: {some(sorted(twice))}.")
    return {key: paths[0] for key, paths in found.items()}


def place(path: Path) -> tuple[int, int]:
    """What tells a file from all others, by whatever names and links; an OSError if it is gone."""
    status = path.stat()
    return status.st_dev, status.st_ino


def folder_of(root: Path, pattern: str, split: str) -> Path:
    """Below which all files of a split lie."""
    return root / pattern.replace("{split}", split).partition("{id}")[0].rpartition("/")[0]


def _match(
    root: Path, pattern: str, split: str, excluded: Iterable[Path] = ()
) -> tuple[dict[str, list[Path]], list[str]]:
    """Files below root that match a layout pattern, by id, and the names of all that were seen."""
    filled = pattern.replace("{split}", split)
    expression = re.escape(filled.removesuffix(".*")).replace(re.escape("{id}"), "(.+)")
    if filled.endswith(".*"):
        expression += rf"\.(?i:{EXTENSIONS})"
    matcher, skipped = re.compile(expression), set(excluded)
    seen, found = [], defaultdict(list)
    for path in _files(folder_of(root, pattern, split)):
        name = path.relative_to(root).as_posix()
        seen.append(name)
        if path not in skipped and (match := matcher.fullmatch(name)):
            found[match[1]].append(path)
    return found, seen


def _files(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden; follows links, which data sets often are, but
    enters no folder twice: each by its own name, or else by the first of its links.
    """
    paths, entered, waiting = [], set(), [folder]
    for start in waiting:  # which grows
        for parent, folders, names in os.walk(start):
            real = os.path.realpath(parent)
            if real in entered:
                folders.clear()
                continue
            entered.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = (Path(parent, name) for name in folders)
            waiting += [path for path in inside if path.is_symlink()]
            paths += [Path(parent, name) for name in names if not name.startswith(".")]
    return paths
