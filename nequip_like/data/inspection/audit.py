"""Everything that is said of data files: facts, distributions, and the verdict of each check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.checks.findings import LEVELS, Level, Subject
from nequip_like.data.inspection.checks.table import Verdict, judge
from nequip_like.data.inspection.coverage import SpeciesCoverage
from nequip_like.data.inspection.histograms import Histogram, collect_histograms
from nequip_like.data.inspection.outliers import STATISTIC, Outlier, find_outliers
from nequip_like.data.inspection.pair_distances import ClosestPair
from nequip_like.data.inspection.reference_fit import ReferenceFit
from nequip_like.data.inspection.report import Inspection, measure_facts
from nequip_like.data.io.readers import Source, read
from nequip_like.data.species import species_of
from nequip_like.summaries import Summarized


@dataclass(repr=False)
class Audit(Summarized):
    """What was found in data.

    Attributes:
        files: ``{file: number of its frames}``.
        facts: Sizes and ranges.
        coverage: Frames and atoms of each species.
        pairs: The closest atoms of each pair of species.
        references: Fitted energies of the species, and what is left; None without energies.
        histograms: How values are distributed.
        outliers: Values far from the others.
        verdicts: One for each check.
        origins: File and index of each frame.
        cutoff: Cutoff radius of neighbours, Angstrom.
    """

    files: dict[str, int]
    facts: Inspection
    coverage: list[SpeciesCoverage]
    pairs: list[ClosestPair]
    references: ReferenceFit | None
    histograms: list[Histogram]
    outliers: list[Outlier]
    verdicts: list[Verdict]
    origins: list[str]
    cutoff: float

    @property
    def level(self) -> Level:
        """The worst level of all verdicts."""
        return max((verdict.level for verdict in self.verdicts), key=LEVELS.index)

    def find_verdict(self, check: str) -> Verdict:
        """The verdict of a check by its name."""
        return next(verdict for verdict in self.verdicts if verdict.check == check)

    def summary(self) -> dict[str, Any]:
        """Size, and the checks that found something."""
        found = {verdict.check: verdict.level for verdict in self.verdicts if verdict.level != "ok"}
        return {"files": len(self.files), "frames": self.facts.frames, **found}

    def as_json(self) -> dict[str, Any]:
        """All of it as values that JSON has, in eV and Angstrom; frames by file and index."""
        reference = None if self.references is None else self.references.reference
        return {
            "files": self.files,
            "cutoff": self.cutoff,
            "level": self.level,
            "verdicts": [
                {
                    "check": verdict.check,
                    "level": verdict.level,
                    "sentences": list(verdict.sentences),
                    "advice": verdict.advice,
                    "frames": [self.origins[i] for i in verdict.frames],
                }
                for verdict in self.verdicts
            ],
            "facts": {key: value for key, value in asdict(self.facts).items() if key not in ("warnings", "name")},
            "species": [asdict(species) for species in self.coverage],
            "closest": [{**asdict(pair), "frame": self.origins[pair.frame]} for pair in self.pairs],
            "reference_energies": None
            if reference is None
            else {"rule": reference.rule, "energies": reference.energies, "residual_rms": reference.residual_rms},
            "outliers": {
                "statistic": STATISTIC,
                "values": [{**asdict(outlier), "frame": self.origins[outlier.frame]} for outlier in self.outliers],
            },
            "histograms": [asdict(histogram) for histogram in self.histograms],
        }


def audit(
    source: Source,
    cutoff: float = 5.0,
    *,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Audit:
    """Look at labelled data: all that is known of them, and a verdict of each check.

    Args:
        source: Files, patterns, or structures in memory, as for :func:`nequip_like.data.io.readers.read`.
        cutoff: Cutoff radius of the neighbour lists, Angstrom.
        key_mapping: ``{name in the files: label}``.
        units: Units of the files.

    Raises:
        ConfigError: If names or units cannot be understood.
        DataError: If a file cannot be read.

    Example:
        Two hydrogen molecules, one of which has its atoms on each other:

        >>> from ase import Atoms
        >>> frames = [Atoms("H2", [[0, 0, 0], [0, 0, length]]) for length in (0.74, 0.05)]
        >>> result = audit(frames)
        >>> result.level, result.find_verdict("distances").text
        ('wrong', 'two atoms are only 0.050 Angstrom apart: Atoms 1')
    """
    return examine(read_to_examine(source, cutoff, key_mapping=key_mapping, units=units))


def read_to_examine(
    source: Source,
    cutoff: float = 5.0,
    *,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> GraphDataset:
    """Read data as they are, also what no training takes: atoms that lie on each other.

    Args:
        source: As for :func:`audit`, and so are the others.
        cutoff: Cutoff radius of the neighbour lists, Angstrom.
        key_mapping: ``{name in the files: label}``.
        units: Units of the files.

    Raises:
        ConfigError: If names or units cannot be understood.
        DataError: If a file cannot be read.
    """
    reading = read(source, key_mapping=key_mapping, units=units)
    files = len(reading.files)
    name = "structures" if not files else reading.files[0].stem if files == 1 else f"{files} files"
    return GraphDataset(reading, cutoff, species_of(reading.frames), name=name, closest=0.0)


def examine(dataset: GraphDataset) -> Audit:
    """Look at a data set as :func:`audit` does.

    Args:
        dataset: Frames with neighbour lists.
    """
    subject = Subject(dataset)
    residuals = None if subject.references is None else subject.references.residuals
    return Audit(
        files=dict(Counter(subject.files)),
        facts=measure_facts(subject),
        coverage=subject.coverage,
        pairs=subject.closest_pairs,
        references=subject.references,
        histograms=collect_histograms(subject),
        outliers=find_outliers(subject.facts, residuals),
        verdicts=judge(subject),
        origins=[dataset.origin(i) for i in range(len(dataset))],
        cutoff=dataset.cutoff,
    )
