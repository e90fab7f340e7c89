"""What a job of many files is told, and what it tells: settings in, one record per file out."""

from dataclasses import asdict, dataclass

from enlca.image.encoding import Format
from enlca.image.rows import MAX_PIXELS, PictureRows
from enlca.inference.raster import waiting_share

# Pictures that are read before their turn.
AHEAD = 2
# Bytes of a picture beyond which it waits on the disk, and of results that wait for the writer.
WAITING_BYTES = 1 << 26
# Rows that libvips holds of a picture that it encodes; measured: up to 1,750 of RGB.
ROWS_HELD = 2048


@dataclass(frozen=True)
class Outcome:
    """What became of one input; `error` is None if all went well.

    `seconds` counts reading, computing and writing; `remark` says where no network, or more than one, did it.
    """

    source: str
    target: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    error: str | None = None
    skipped: bool = False
    remark: str | None = None

    def to_dict(self) -> dict:
        """A JSON record."""
        return asdict(self)


@dataclass(frozen=True)
class Settings:
    """How pictures are read and written.

    Attributes:
        quality: 1 to 100, of JPEG, WebP and AVIF.
        max_pixels: a picture whose header promises more is refused before it is decoded.
        frames: "first" or "all" pages of a file; "auto": all pages of a TIFF that becomes a TIFF.
        max_memory: see `Upscaler`.
    """

    quality: int = 95
    max_pixels: int = MAX_PIXELS
    frames: str = "auto"
    max_memory: int | None = None

    @property
    def waiting_bytes(self) -> int:
        """What a picture may take in memory before its turn, and what is made of it until it is written."""
        return (
            WAITING_BYTES if self.max_memory is None else min(WAITING_BYTES, waiting_share(self.max_memory))
        )

    def reserve(self, form: Format, picture: PictureRows, width: int, height: int) -> int:
        """Bytes that are taken beside the network, while a picture becomes `width` x `height`."""
        row = picture.layers * picture.dtype.itemsize * width
        pixels = width * height * picture.pages
        # The resize works on some rows in float64, twice.
        rows = ROWS_HELD * row + 2 * 8 * 128 * picture.layers * width
        return rows + form.memory_per_pixel * pixels + (1 + AHEAD) * self.waiting_bytes
