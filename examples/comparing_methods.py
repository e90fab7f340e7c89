"""
Comparing methods
=================

Two networks, bicubic, and a folder of pictures that any program made, are compared on the same data, picture
by picture.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from PIL import Image

from enlca.evaluation.compare import Comparison
from enlca.evaluation.several import evaluate_each, methods_called

images = Path(sys.argv[0]).parent / "../docs/images"
sources = sys.argv[1:2] or [images / "large/bricks.png", images / "astronaut_crop.png"]

# %%
# Data: a folder of HR pictures
# -----------------------------
#
# Three parts of 96 x 96 of each picture are the test set here, which says nothing; benchmarks have five to a
# hundred pictures. LR pictures are made by MATLAB's bicubic. The other program is Pillow here, by its
# Lanczos interpolation.

with TemporaryDirectory() as folder:
    data, theirs = Path(folder, "parts"), Path(folder, "lanczos")
    data.mkdir()
    theirs.mkdir()
    for source in map(Path, sources):
        with Image.open(source) as picture:
            whole = picture.convert("RGB")
        for number in range(3):
            corner = 20 * number
            hr = whole.crop((corner, corner, corner + 96, corner + 96))
            lr = hr.resize((24, 24), Image.Resampling.BICUBIC)
            hr.save(data / f"{source.stem}_{number}.png")
            lr.resize(hr.size, Image.Resampling.LANCZOS).save(theirs / f"{source.stem}_{number}.png")

    methods = methods_called(["bicubic", "edsr-tiny", "enlcn-tiny", str(theirs)], scale=4)
    comparison = Comparison.of(evaluate_each(methods, [data], scale=4))

print(comparison.to_markdown())

# %%
# Differences to the first method
# -------------------------------
#
# A point is a picture. PSNR varies much more from picture to picture than from method to method, so only the
# differences on the same picture say something; their mean has Student's interval.

figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
for line, difference in enumerate(comparison.differences()):
    report = comparison.reports[comparison.names.index(difference.model)]
    gaps = [other.psnr_y - base.psnr_y for base, other in comparison.pairs(report)]
    axis.plot(gaps, [line] * len(gaps), "o", alpha=0.5)
    print(f"{difference.model}: {difference.psnr_y} dB, {difference.verdict}")
axis.axvline(0, color="gray")
axis.set_yticks(range(len(comparison.names) - 1), comparison.names[1:])
axis.set_xlabel(f"PSNR-Y minus {comparison.names[0]}, dB")
plt.show()

# %%
# The same from the shell, with a page that shows where methods differ most:
# ``enlca compare --model bicubic --model edsr-tiny --model theirs/ --data parts/ --scale 4 --html
# report.html``.
