"""Do energies, forces and stress belong together?

Between close frames each of them says by how much the energy changes (:mod:`nequip_like.data.inspection.near_frames`);
that tells a wrong sign, unit, offset or order of components, and forces of other atoms or along other axes. Where the
cell is always the same the stress does no work: it is then compared with what the forces say of it
(:mod:`nequip_like.data.inspection.pair_potential_fit`). Sets that tell nothing are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.near_frames import Work, compute_work, join_works
from nequip_like.data.inspection.pair_potential_fit import StressFit, fit_stress

_GPA = 160.21766208  # 1 eV/Angstrom^3
_VASP = "VASP's order of components, xx yy zz xy yz zx; six numbers are read as xx yy zz yz xz xy"

_FEWEST_PAIRS = 6
_FEWEST_OF_PART = 12  # of one kind of structures among others, each of which is asked
_FEWEST_STRAINED = 10  # pairs whose cells differ, to tell of the stress
_FACTOR = 2.5  # units of energy differ by 13.6 and more; right labels of real sets agree within 0.8 to 1.2
_CERTAIN = 5.0  # standard errors
_ENERGY_BETTER = 1.5  # times, by which the misfit has to shrink
_NEEDED = 1.3  # times; forces without any relation to the energies are not a matter of a factor
_STRESS_BETTER = 3.0  # with a pressure that is 2.4 GPa off: 6 times; right sets come to 1.9
_FEWEST_UNRELATED = 8  # pairs, to say that forces explain nothing
_MORE_THAN_ERRORS = 1.5  # expected errors that are left; right labels leave 0.1 to 0.7
_UNEXPLAINED = 0.5  # of the energies' changes; right labels leave 0.01 to 0.3
_PRECISE = 0.3  # a factor with a smaller standard error decides about the stress
_LARGEST_OFFSET = 1.5  # GPa; less may be Pulay stress
_ORDER_BETTER = 3.0
_ORDER_MISFIT = 0.3  # of the expected error; below it, shear does no work that could be told from nothing

_EXPLAINED = 0.6  # of the squared forces; below, the pair potential says nothing
_DETERMINED = 6.0  # certainty of its stress; that of real sets comes to 19 and more, of small right ones to 6.7
_LEVERAGE = 0.03  # shaken crystals with moves of 0.02 Angstrom have 0.04, of 0.05 Angstrom 0.1
_CORRELATED = 0.7  # stress and that of the pair potential; right labels of real sets have 0.8 to 1
_FIT_FACTOR = 4.0  # right sets differ by 1.2, or 2.8 where atoms are hardly off their lattice sites
_SWAPPED = 3.0  # times, by which the rest to full correlation has to shrink in another order of components

_SMALLEST_MISFIT = 0.1  # of the expected error; no set is trusted to be better than that
_FELT = 0.1  # of the largest; rows with less of a label say nothing of it
_STEPS = 20  # of the search for the smallest sum of absolute deviations
_PRIOR = 1e-2  # factors are 1, give or take 10, where nothing determines them


@dataclass(frozen=True)
class Factor:
    """By what a label has to be multiplied to agree with the others.

    Attributes:
        value: The factor.
        error: Its standard error.
        better: Median deviation of the label as it was read, over that with the factor, where it matters.
        needed: Mean deviation without the label, over that with the factor; 1 for a label without any relation.
    """

    value: float
    error: float
    better: float
    needed: float

    @property
    def is_right(self) -> bool:
        """Whether the label is known to need no factor."""
        return self.is_determined and 1 / _FACTOR < self.value < _FACTOR

    @property
    def is_determined(self) -> bool:
        """Whether the factor says anything."""
        return self.error < _PRECISE

    def is_wrong(self, better: float) -> bool:
        """Whether the label certainly needs a factor that no inaccuracy explains, and the misfit shrinks as asked."""
        near = 1 / _FACTOR < self.value < _FACTOR
        return not near and abs(self.value - 1) > _CERTAIN * self.error and self.better > better


@dataclass(frozen=True)
class LabelComparison:
    """Labels of a data set beside each other.

    Attributes:
        forces: One sentence on how energies and forces contradict each other; None if they do not, or nothing tells.
        stress: The same of the stress, which is only asked where ``forces`` is None.
        pairs: Number of close frames whose energies, forces and stress were compared.
        strained: How many of them have cells that differ.
        of_forces: By what the forces have to be multiplied to agree with the energies; None with too few pairs.
        of_stress: The same of the stress; None with too few strained pairs.
        correlation: Of the stress with that of a pair potential fitted to the forces; None where it says nothing.
    """

    forces: str | None = None
    stress: str | None = None
    pairs: int = 0
    strained: int = 0
    of_forces: Factor | None = None
    of_stress: Factor | None = None
    correlation: float | None = None


def compare_labels(dataset: GraphDataset) -> LabelComparison:
    """Compare energies, forces and stress between close frames, and stress with what the forces say of it."""
    parts = compute_work(dataset.frames)
    work = join_works([part for _, part in parts])
    strained = int((work.dilation != 0).sum())
    result = LabelComparison(pairs=len(work), strained=strained)
    by_work = None
    if len(work) >= _FEWEST_PAIRS:
        of_forces, of_stress = fit_factors(work)
        result = replace(result, of_forces=of_forces)
        if sentence := _find_wrong_forces(work, of_forces):
            return replace(result, forces=sentence)
        if strained >= _FEWEST_STRAINED:
            result = replace(result, of_stress=of_stress)
            by_work = _find_stress_mismatch(work, of_stress, of_forces)
    for formula, part in parts if len(parts) > 1 else ():  # a wrong one is not seen among many right ones
        if len(part) >= _FEWEST_OF_PART and (sentence := _find_wrong_forces(part, fit_factors(part)[0])):
            return replace(result, forces=f"of the frames of {formula}: {sentence}")
    if by_work is not None:
        return replace(result, stress=by_work)
    fit = fit_stress(dataset)
    if fit is None or fit.explained < _EXPLAINED or fit.certainty < _DETERMINED or fit.leverage < _LEVERAGE:
        return result
    scale_is_known = result.of_stress is not None and result.of_stress.is_right
    by_fit = (None if scale_is_known else _find_mismatch_with_fit(fit)) or _find_shear_order(fit)
    return replace(result, stress=by_fit, correlation=_measure_agreement(fit.label, fit.fit)[0])


def _find_wrong_forces(work: Work, of_forces: Factor) -> str | None:
    return _find_energy_mismatch(of_forces) or _find_unrelated_forces(work)


def fit_factors(work: Work) -> tuple[Factor, Factor]:
    """By what the works of the forces and of the stress have to be multiplied to make up the differences in energy."""
    of_forces, of_stress = _estimate_factors(work.energy, torch.stack([work.forces, work.stress], dim=1), work.error)
    return of_forces, of_stress


def _find_energy_mismatch(factor: Factor) -> str | None:
    if not factor.is_wrong(_ENERGY_BETTER) or factor.needed < _NEEDED:
        return None
    if factor.value < 0:
        reason = "are they gradients, the negative of forces?"
    else:
        reason = "is the unit of one of them wrong, or is the energy one per atom?"
    return f"energies change {factor.value:.2g} times as much between close frames as the forces say; {reason}"


def _find_unrelated_forces(work: Work) -> str | None:
    """One sentence if forces explain hardly any of the energies' changes: those of other atoms or axes.

    A stress may be wrong as it likes: any factor, any pressure and either order of its components is allowed it.
    """
    felt = work.forces.abs() > work.error  # strained crystals, whose forces are zero by symmetry, tell nothing
    if int(felt.sum()) < _FEWEST_UNRELATED:
        return None
    swapped = (from_vasp_order(work.virial) * work.strain).sum(dim=(1, 2))
    columns = (torch.stack([work.stress, swapped, work.dilation], dim=1) / work.error[:, None])[felt]
    without = _compute_deviations((work.energy / work.error)[felt], columns)
    remaining = _compute_deviations(((work.energy - work.forces) / work.error)[felt], columns)
    part = min(float(remaining.mean() / without.mean()), float(remaining.median() / without.median()))
    if not (remaining.median() > _MORE_THAN_ERRORS and part > _UNEXPLAINED):
        return None
    return (
        f"forces do not explain how the energies change between close frames ({len(remaining)} pairs): {part:.0%} of "
        "it is left; are the atoms or the axes of the forces in another order than those of the positions, or the "
        "energies those of another calculation?"
    )


def _find_stress_mismatch(work: Work, of_stress: Factor, of_forces: Factor) -> str | None:
    """A stress with another factor, another order of its components, or a pressure added: what agrees best."""
    residual = work.energy - work.forces
    # With an offset of 1 eV/Angstrom^3 added, the factor of that offset is 1 for a right label.
    (of_pressure,) = _estimate_factors(residual - work.stress + work.dilation, work.dilation[:, None], work.error)
    offset = (of_pressure.value - 1) * _GPA
    certain = abs(offset) > max(_LARGEST_OFFSET, _CERTAIN * of_pressure.error * _GPA)
    shifted = certain and of_pressure.better > _STRESS_BETTER
    if of_stress.is_wrong(_STRESS_BETTER) and not (shifted and of_pressure.better > of_stress.better):
        flipped = -_FACTOR < of_stress.value < -1 / _FACTOR
        whose = "its" if flipped or of_forces.is_right else "its or the energies'"
        remedy = "; if it is positive under compression, declare 'data.units={stress_sign: compression}'"
        return (
            f"stress contradicts the energies: they change {of_stress.value:.3g} times as much as it says; "
            f"{whose} {'sign' if flipped else 'unit or sign'} looks wrong{remedy if of_stress.value < 0 else ''}"
        )
    swapped = ((from_vasp_order(work.virial) * work.strain).sum(dim=(1, 2)) - residual) / work.error
    misfit = float(((work.stress - residual) / work.error).abs().median())
    if misfit > _ORDER_MISFIT and misfit > _ORDER_BETTER * float(swapped.abs().median()):
        return f"shear stress agrees better with the energies in {_VASP}"
    if shifted:
        return (
            f"stress lies {abs(offset):.1f} GPa {'below' if offset > 0 else 'above'} what the energies say, "
            f"along all axes alike ({len(work)} pairs of close frames): they do not belong together; either a pressure "
            "was added to the stress, or the energies drift with the volume, as with plane waves that change with the "
            "cell; train on one of both only"
        )
    return None


def _find_mismatch_with_fit(fit: StressFit) -> str | None:
    correlation, ratio = _measure_agreement(fit.label, fit.fit)
    if correlation < -_CORRELATED:
        return (
            f"stress and forces contradict: correlation {correlation:.2f} with a pair potential fitted to the forces; "
            "is the sign wrong? If it is positive under compression, declare 'data.units={stress_sign: compression}'"
        )
    if correlation > _CORRELATED and not 1 / _FIT_FACTOR < ratio < _FIT_FACTOR:
        return (
            f"stress is {ratio:.2g} times as large as a pair potential fitted to the forces says; is it in GPa or "
            "kbar, or a virial?"
        )
    return None


def _find_shear_order(fit: StressFit) -> str | None:
    fit_shear = _shear(fit.fit)
    as_read = _measure_agreement(_shear(fit.label), fit_shear)[0]
    swapped = _measure_agreement(_shear(from_vasp_order(fit.label)), fit_shear)[0]
    if swapped > _CORRELATED and _SWAPPED * (1 - swapped) < 1 - as_read:
        agreement = f"correlation {swapped:.2f} instead of {as_read:.2f}"
        return f"shear stress agrees better with the forces ({agreement}) in {_VASP}"
    return None


def from_vasp_order(tensors: torch.Tensor) -> torch.Tensor:
    """Symmetric tensors (..., 3, 3) whose components xx yy zz xy yz zx were read as xx yy zz yz xz xy, put right."""
    reordered = tensors.clone()
    for to, source in (((1, 2), (0, 2)), ((0, 2), (0, 1)), ((0, 1), (1, 2))):
        reordered[..., to[0], to[1]] = reordered[..., to[1], to[0]] = tensors[..., source[0], source[1]]
    return reordered


def _shear(tensors: torch.Tensor) -> torch.Tensor:
    return tensors[:, [1, 0, 0], [2, 2, 1]]


def _measure_agreement(label: torch.Tensor, fit: torch.Tensor) -> tuple[float, float]:
    """Correlation of two sets of deviations, and how large the first is beside the second; zeros if one is zero."""
    sizes = float(label.norm()), float(fit.norm())
    if not (sizes[0] > 0 and sizes[1] > 0):
        return 0.0, 0.0
    return float((label * fit).sum()) / (sizes[0] * sizes[1]), sizes[0] / sizes[1]


def _estimate_factors(target: torch.Tensor, columns: torch.Tensor, error: torch.Tensor) -> list[Factor]:
    """Factors of the columns (rows, columns) that make up the target (rows,) best, each row with its typical error."""
    rows, goal = columns / error[:, None], target / error
    best = _fit_least_deviations(rows, goal)
    spared = len(goal) / (len(goal) - rows.shape[1])  # the best factors fit as many rows exactly as there are factors
    residuals = (goal - rows @ best).abs()
    misfit = max(float(residuals.median()) * spared, _SMALLEST_MISFIT)
    gram = rows.mT @ rows + _PRIOR * torch.eye(rows.shape[1], dtype=rows.dtype)
    errors = 1.48 * misfit * torch.linalg.inv(gram).diagonal().sqrt()  # of a normal distribution, by its median
    result = []
    for i in range(rows.shape[1]):
        other_columns = [k for k in range(rows.shape[1]) if k != i]
        with_one, without = (
            _compute_deviations(goal - value * rows[:, i], rows[:, other_columns]) for value in (1.0, 0.0)
        )
        needed = float(without.mean()) / max(float(residuals.mean()), 1e-9)
        felt = rows[:, i].abs() >= _FELT * rows[:, i].abs().max()
        better = float(with_one[felt].median()) / max(float(residuals[felt].median()) * spared, _SMALLEST_MISFIT)
        result.append(Factor(float(best[i]), float(errors[i]), better, needed))
    return result


def _compute_deviations(goal: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Deviations that the best factors leave of the goal."""
    return (goal - rows @ _fit_least_deviations(rows, goal)).abs()


def _fit_least_deviations(rows: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Factors with the smallest sum of absolute deviations, which a few wrong rows do not change.

    Least squares with weights that are renewed from the deviations (Schlossmacher, J. Am. Stat. Assoc. 68, 857, 1973).
    """
    prior = _PRIOR * torch.eye(rows.shape[1], dtype=rows.dtype)
    weights = torch.ones_like(goal)
    result = torch.ones(rows.shape[1], dtype=rows.dtype)
    for _ in range(_STEPS if rows.shape[1] else 0):
        weighted = rows.mT * weights
        result = torch.linalg.solve(weighted @ rows + prior, weighted @ goal + prior.sum(dim=1))
        residuals = (goal - rows @ result).abs()
        weights = 1 / residuals.clamp(min=0.1 * float(residuals.median()) + 1e-12)
        weights = weights / weights.mean()
    return result
