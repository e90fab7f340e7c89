"""The figure of `experiments.approximation`."""

from pathlib import Path

from benchmarks.report import COLOURS, MARKERS
from experiments.approximation import (
    AMPLIFICATIONS,
    COSINES,
    DATASETS,
    KERNEL_FEATURES,
    MODEL,
    SCALE,
    Row,
    chosen,
)
from experiments.drawing import WIDTH, plt, save


def figure(rows: list[Row], out: Path) -> None:
    """Four panels: the kernel, the output of random and of trained attention, the score."""
    sheet, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.6), layout="constrained")
    first, *outputs, last = axes.flat
    for cosine, colour, marker in zip(COSINES, COLOURS, MARKERS, strict=False):
        eq7, measured = (
            chosen(rows, on=f"cosine {cosine:g}", attention=name) for name in ("Eq. 7", "independent")
        )
        first.plot(
            AMPLIFICATIONS, [row.deviation for row in eq7], color=colour, label=f"cos(q, k) = {cosine:g}"
        )
        first.plot(AMPLIFICATIONS, [row.deviation for row in measured], marker, color=colour, markersize=5)
    first.set(title=f"One kernel value, m = {KERNEL_FEATURES}: Eq. 7 (line), measured (mark)", yscale="log")
    first.set(xlabel="amplification k", ylabel="deviation of the estimate / exp(q.k)")
    places = list(dict.fromkeys(row.on for row in rows if row.part == "output"))
    for axis, on in zip(outputs, (places[0], places[-1]), strict=True):
        for k, colour, marker in zip(AMPLIFICATIONS, COLOURS, MARKERS, strict=False):
            for name, line in (("orthogonal", "-"), ("independent", ":")):
                mine = chosen(rows, part="output", on=on, attention=name, k=k)
                label = f"k = {k:g}" if name == "orthogonal" else None
                ms, errors = [row.m for row in mine], [row.mean for row in mine]
                axis.plot(ms, errors, line, marker=marker, color=colour, markersize=4, label=label)
        axis.plot([], [], "k:", label="independent")
        axis.set(title=f"Output, {on}", yscale="log", ylabel="relative error of the output")
        axis.margins(y=0.25)
    for on, colour, marker in zip(DATASETS, COLOURS, MARKERS, strict=False):
        (exact,), (trained,) = (chosen(rows, on=on, attention=name) for name in ("exact", "as trained"))
        mine = chosen(rows, on=on, attention="new features")
        ms, gaps = [row.m for row in mine], [row.mean - exact.mean for row in mine]
        spread = [row.deviation for row in mine]
        last.errorbar(ms, gaps, spread, marker=marker, color=colour, capsize=2, label=f"{on}, new features")
        last.plot(
            trained.m, trained.mean - exact.mean, "*", color=colour, markersize=10, label=f"{on}, as trained"
        )
    last.axhline(0, color="black", linewidth=0.8)
    last.margins(y=0.25)
    last.set(
        title=f"Score of {MODEL} x{SCALE}, not trained again", ylabel="PSNR - PSNR of exact attention (dB)"
    )
    for axis, part in ((outputs[0], "output"), (outputs[1], "output"), (last, "score")):
        ms = dict.fromkeys(row.m for row in chosen(rows, part=part) if row.m)
        axis.set(xscale="log", xlabel="random features m")
        axis.set_xticks(list(ms), list(map(str, ms)))
        axis.minorticks_off()
    for axis in axes.flat:
        axis.legend(fontsize=7, ncols=2, frameon=False)
    for suffix in (".svg", ".png"):
        save(sheet, out / f"approximation{suffix}")
