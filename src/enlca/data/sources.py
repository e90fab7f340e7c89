"""The data sets that can be downloaded: addresses and, where they are published, sizes and checksums.

SHA-256 and sizes of DIV2K are those that TensorFlow Datasets publishes and checks for the same addresses
(tensorflow/datasets, url_checksums/div2k.txt). No SHA-256 of the benchmark sets' archives is published; an
MD5 of Urban100's HR pictures is in use (deepinv's examples).
"""

from dataclasses import dataclass

from enlca.errors import EnlcaError


@dataclass(frozen=True)
class Archive:
    """A .zip or .tar.gz of pictures.

    Attributes:
        file: its name at the source's address.
        folder: target of its pictures inside the data set's folder.
        size: in bytes, if known.
        known_hash: "sha256:..." or "md5:..." in hexadecimal, if known.
        scale: of LR pictures; None for HR.
    """

    file: str
    folder: str
    size: int | None = None
    known_hash: str | None = None
    scale: int | None = None


@dataclass(frozen=True)
class Source:
    """A data set that can be downloaded.

    Attributes:
        title: name of its folder.
        base: address of its archives.
        archives: what it consists of.
        note: size and licence, for the list.
        ask: where to request it, if it must not be downloaded without permission.
    """

    title: str
    base: str
    archives: tuple[Archive, ...]
    note: str
    ask: str | None = None


def _div2k(half: str, sums: dict[str, tuple[int, str]]) -> tuple[Archive, ...]:
    """Return DIV2K's archives of one half (train, valid); `sums`: size and SHA-256 by suffix of the name."""
    archives = []
    for end, (size, digest) in sums.items():
        scale = None if end == "HR" else int(end[-1])
        folder = f"DIV2K_{half}_HR" if scale is None else f"DIV2K_{half}_LR_bicubic/X{scale}"
        archives.append(Archive(f"DIV2K_{half}_{end}.zip", folder, size, f"sha256:{digest}", scale))
    return tuple(archives)


def _benchmark(title: str, name: str, note: str, known_hash: str | None = None) -> Source:
    """Return a benchmark set in the form that the `super-image` project hosts: HR and LR pictures."""
    hr = Archive(f"{name}_HR.tar.gz", "HR", known_hash=known_hash)
    lr = [Archive(f"{name}_LR_x{s}.tar.gz", f"LR_x{s}", scale=s) for s in (2, 3, 4)]
    base = f"https://huggingface.co/datasets/eugenesiow/{name}/resolve/main/data"
    return Source(title, base, (hr, *lr), note)


DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
TRAIN = _div2k(
    "train",
    {
        "HR": (3530603713, "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"),
        "LR_bicubic_X2": (925390592, "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850"),
        "LR_bicubic_X3": (427847282, "ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a"),
        "LR_bicubic_X4": (246914039, "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a"),
    },
)
VALID = _div2k(
    "valid",
    {
        "HR": (448993893, "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"),
        "LR_bicubic_X2": (117763600, "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57"),
        "LR_bicubic_X3": (54513392, "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3"),
        "LR_bicubic_X4": (31505881, "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553"),
    },
)
_RESEARCH = "licence not stated; commonly used for research"
SOURCES = {
    "div2k": Source("DIV2K", DIV2K, (*TRAIN, *VALID), "800 + 100 pictures; academic research only"),
    "div2k-valid": Source("DIV2K", DIV2K, VALID, "its validation half: 100 pictures; academic research only"),
    "set5": _benchmark("Set5", "Set5", f"5 pictures; {_RESEARCH}"),
    "set14": _benchmark("Set14", "Set14", f"14 pictures; {_RESEARCH}"),
    "b100": _benchmark("B100", "BSD100", "100 pictures of BSDS300; non-commercial research and education"),
    "urban100": _benchmark(
        "Urban100", "Urban100", f"100 pictures; {_RESEARCH}", "md5:65d9d84a34b72c6f7ca1e26a12df1e4c"
    ),
    "manga109": Source(
        "Manga109",
        "",
        (),
        "109 pages; only on request, for academic use",
        ask="its authors give it to those who register at http://www.manga109.org/en/",
    ),
}


def find_source(name: str) -> Source:
    """Return the source called `name`, ignoring case.

    Raises:
        EnlcaError: there is none of that name, or it must be requested; the message says where.
    """
    source = SOURCES.get(name.lower())
    if source is None:
        raise EnlcaError(f"unknown data set {name!r}; known: {', '.join(SOURCES)} (see --list)")
    if source.ask:
        raise EnlcaError(f"{source.title} cannot be fetched without asking: {source.ask}")
    return source


def listing() -> str:
    """Return a line per source: name, size where known, note."""
    lines = []
    for name, source in SOURCES.items():
        sizes = [archive.size for archive in source.archives]
        known = [size for size in sizes if size is not None]
        size = f"{sum(known) / 1e9:.1f} GB" if known and len(known) == len(sizes) else "-"
        lines.append(f"{name:12}{size:>8}  {source.note}\n")
    return "".join(lines)
