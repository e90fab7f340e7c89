"""Methods side by side: how much each differs from the first, image by image, with confidence intervals."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from enlca.errors import EvaluationError
from enlca.evaluation.evaluate import Evaluation
from enlca.evaluation.intervals import CONFIDENCE, Interval, paired_interval
from enlca.evaluation.report import ImageScore, Report, cells_of, columns_of, dumps, titles_of

METRICS = ("psnr_y", "ssim_y")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much a method differs from the reference on one data set.

    Attributes:
        dataset, model, reference: their names; positive differences are in favour of `model`.
        psnr_y, ssim_y: the mean difference and its interval over the images; in dB, and without a unit.
        better: on how many images `model` has the higher PSNR.
        n: number of images.
    """

    dataset: str
    model: str
    reference: str
    psnr_y: Interval
    ssim_y: Interval
    better: int
    n: int

    @property
    def verdict(self) -> str:
        """What the interval of PSNR says of the model."""
        if not self.psnr_y.decided:
            return "not decided"
        return "better" if self.psnr_y.mean > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Reports of several methods on the same images, in the same order; the first is the reference."""

    reports: Sequence[Report]

    @classmethod
    def of(cls, results: Sequence[Evaluation]) -> "Comparison":
        """Compare on the images that every method has a score for.

        Raises:
            EvaluationError: fewer than two methods, or no such image; the first failures say why.
        """
        if len(results) < 2:
            raise EvaluationError("a comparison needs two models or more: repeat --model")
        scored = [{(row.dataset, row.image) for row in result.report.images} for result in results]
        everywhere = set.intersection(*scored)
        if not everywhere:
            reasons = list(dict.fromkeys(line for result in results for line in result.failures))[:3]
            none = "there is no picture that every method could be scored on"
            raise EvaluationError("; ".join([none, *reasons]))
        return cls(
            [
                replace(
                    result.report,
                    images=[row for row in result.report.images if (row.dataset, row.image) in everywhere],
                )
                for result in results
            ]
        )

    @property
    def names(self) -> list[str]:
        """The methods' names, the reference first."""
        return [report.images[0].model for report in self.reports]

    @property
    def datasets(self) -> list[str]:
        """The data sets' names."""
        return list(self.reports[0].datasets())

    def pairs(self, report: Report) -> list[tuple[ImageScore, ImageScore]]:
        """Return the rows of the reference and of another method, image by image."""
        return list(zip(self.reports[0].images, report.images, strict=True))

    def differences(self) -> list[Difference]:
        """Return the differences of each other method on each data set."""
        found = []
        for dataset in self.datasets:
            for report in self.reports[1:]:
                pairs = [pair for pair in self.pairs(report) if pair[0].dataset == dataset]
                psnr, ssim = ([gap(*pair, metric) for pair in pairs] for metric in METRICS)
                found.append(
                    Difference(
                        dataset=dataset,
                        model=pairs[0][1].model,
                        reference=self.names[0],
                        psnr_y=_interval(psnr),
                        ssim_y=_interval(ssim),
                        better=sum(one > 0 for one in psnr),
                        n=len(pairs),
                    )
                )
        return found

    def to_json(self) -> str:
        """Return every report, and the differences between them."""
        return dumps(
            {
                "reference": self.names[0],
                "confidence": CONFIDENCE,
                "differences": [asdict(one) | {"verdict": one.verdict} for one in self.differences()],
                "results": [report.to_dict() for report in self.reports],
            }
        )

    def to_csv(self) -> str:
        """Return a row for each image and method: the columns of `enlca evaluate`, then the differences."""
        text = io.StringIO()
        columns = columns_of(self.reports)
        extra = [f"{metric}_difference" for metric in METRICS]
        writer = csv.DictWriter(text, [*columns, "reference", *extra], lineterminator="\n")
        writer.writeheader()
        for report in self.reports:
            for base, row in self.pairs(report):
                gaps = {name: gap(base, row, metric) for name, metric in zip(extra, METRICS, strict=True)}
                writer.writerow(row.to_dict() | {"reference": base.model} | gaps)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Return means and differences as a table."""
        metrics = self.reports[0].metrics
        titles = ["data set", "scale", "model", *titles_of(metrics), "images"]
        titles += [f"minus {self.names[0]}, dB [95 %]", "better in", ""]
        lines = [f"| {' | '.join(titles)} |".replace("|  |", "| |"), "|---" * len(titles) + "|"]
        gaps = {(one.dataset, one.model): one for one in self.differences()}
        for dataset in self.datasets:
            for report, name in zip(self.reports, self.names, strict=True):
                mean, found = report.datasets()[dataset], gaps.get((dataset, name))
                cells = [dataset, f"x{report.protocol.scale}", name]
                cells += [*cells_of(mean, metrics), str(mean["n"])]
                cells += (
                    [str(found.psnr_y), f"{found.better} of {found.n}", found.verdict] if found else [""] * 3
                )
                lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def gap(reference: ImageScore, other: ImageScore, metric: str = "psnr_y") -> float:
    """Return the other's score minus the reference's; 0 where both are infinite, of equal images."""
    a, b = getattr(reference, metric), getattr(other, metric)
    return 0.0 if a == b else b - a


def _interval(differences: Sequence[float]) -> Interval:
    """Return the interval; where a difference is infinite, one that says nothing."""
    if all(map(math.isfinite, differences)):
        return paired_interval(differences)
    return Interval(mean=sum(differences) / len(differences), low=-math.inf, high=math.inf)
