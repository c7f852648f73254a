"""Where the weights of published feature networks come from, and where they are looked for.

Nothing is downloaded here: a network that reports are compared by is fetched once, by hand, with the
command that the message gives. Its digest stands in every report.
"""

import dataclasses
import hashlib
import os
import pathlib
import shlex

from absl import logging

VARIABLE = "NOISE_SCHED_WEIGHTS"  # an environment variable with a folder of weights
_FOLDERS = ("~/.cache/noise_sched", "~/.cache/torch/hub/checkpoints")


@dataclasses.dataclass(frozen=True)
class Published:
    """A published file of weights.

    Attributes:
      title: what it is.
      file: its name.
      url: where its authors, or those who converted it, put it.
      size: in bytes.
      sha256: its checksum. Inception's first digits are in its name, as torch's hub writes them; DINOv2's
        authors publish none: size and checksum are those that others have recorded of this URL.
      others: names under which other projects save the same bytes.
    """

    title: str
    file: str
    url: str
    size: int
    sha256: str
    others: tuple[str, ...] = ()


WEIGHTS = {
    # TensorFlow's graph of 2015-12-05, converted by pytorch-fid; torch-fidelity keeps the same bytes.
    "inception": Published(
        title="Inception v3 for FID",
        file="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        size=95_628_359,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        others=("weights-inception-2015-12-05-6726825d.pth",),
    ),
    "dinov2": Published(
        title="DINOv2 ViT-L/14",
        file="dinov2_vitl14_pretrain.pth",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        size=1_217_586_395,
        sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    ),
}


def find(name: str, path: str = "") -> pathlib.Path:
    """The file of a network's weights.

    Args:
      name: a key of `WEIGHTS`.
      path: the file, or the folder that it is in; "" looks into the folder of the environment variable
        NOISE_SCHED_WEIGHTS, ~/.cache/noise_sched and torch's ~/.cache/torch/hub/checkpoints.

    Raises:
      FileNotFoundError: it is not there; the message says how to get it.
    """
    published = WEIGHTS[name]
    given = pathlib.Path(path).expanduser()
    if path and given.is_file():
        return given
    folders = [given] if path else _folders()
    for folder in folders:
        for file in (published.file, *published.others):
            if (folder / file).is_file():
                return folder / file
    raise FileNotFoundError(_how_to_get(published, path, folders))


def digest(name: str, path: pathlib.Path) -> str:
    """The SHA-256 of a file of weights, in hex; another one than the published is warned of."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    published = WEIGHTS[name]
    if found != published.sha256:
        logging.warning(
            "%s is not the published file of %s: its SHA-256 is %s, not %s. Numbers made with it may not be "
            "comparable with published ones.",
            path,
            published.title,
            found,
            published.sha256,
        )
    return found


def _folders() -> list[pathlib.Path]:
    own = os.environ.get(VARIABLE)
    return [pathlib.Path(folder).expanduser() for folder in (*([own] if own else []), *_FOLDERS)]


def _how_to_get(published: Published, path: str, folders: list[pathlib.Path]) -> str:
    if path and not folders[0].is_dir():
        where, target = f"there is no {path}", _FOLDERS[0]
    else:
        where = f"there is no such file in {', '.join(map(str, folders))}"
        target = shlex.quote(str(folders[0])) if path else _FOLDERS[0]
    return (
        f"{published.title} needs {published.file} ({published.size:,} bytes, SHA-256 "
        f"{published.sha256[:8]}...), but {where}. To get it:\n"
        f"    curl --location --create-dirs --output {target}/{published.file} {published.url}"
    )
