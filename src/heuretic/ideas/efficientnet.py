"""EfficientNet: grow depth, width and image size of a network together.

Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946. The models are
`heuretic.nn.efficientnet_b0` to `efficientnet_b7`; the scaling, for any network, is `heuretic.nn.CompoundScaling`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import heuretic as hr
from heuretic.ideas.idea import SCALES, Idea, Paper, Scale
from heuretic.ideas.result import Arm, Reproduction, Verdict
from heuretic.nn import CompoundScaling, MultiplyAdds, efficientnet_b0, parameter_count
from heuretic.nn.efficientnet import SCALES as COEFFICIENTS
from heuretic.nn.published import PUBLISHED, Published

CLAIM = "published parameter counts and multiply-adds of B0 to B7"
#: How far multiply-adds may be off.
TOLERANCE = 0.05
RULE = (
    "Reproduced if scaling B0 by the published coefficients gives, for every network from B0 to B7, the printed number of "
    "parameters within one unit of the last digit shown, and the printed multiply-adds within 5%; else not reproduced. (The "
    "tolerances were set when most of the numbers were known: how the paper counts multiply-adds is not said.) That larger "
    "networks are more accurate is not checked here."
)


def reproduce(
    scale: Scale = "smoke",
    *,
    seeds: Sequence[int] | None = None,
    progress: Callable[[str], None] | None = None,
    folder: Path | None = None,
) -> Reproduction:
    """Scale the program of B0 to B1 ... B7 by the patch, and count parameters and multiply-adds of what comes out.

    Nothing is random and no weights are made: all scales do the same, and `seeds` and `folder` are of no use.
    Raises: ValueError for an unknown scale.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    began = time.perf_counter()
    here: dict[str, tuple[float, ...]] = {}
    printed: dict[str, tuple[float, ...]] = {}
    off: list[str] = []
    for each in PUBLISHED:
        name = each.name.removeprefix("efficientnet_")
        if name not in COEFFICIENTS or not each.source.startswith("Tan"):
            continue
        parameters, multiply_adds = _counted(name, each.side)
        here |= {
            f"{name}_parameters_millions": (parameters / 1e6,),
            f"{name}_multiply_adds_billions": (multiply_adds / 1e9,),
        }
        printed |= {
            f"{name}_parameters_millions": (float(each.parameters),),
            f"{name}_multiply_adds_billions": (float(each.multiply_adds),),
        }
        off += [f"{what} of {name.upper()}" for what in differing(each, parameters, multiply_adds)]
        if progress is not None:
            progress(
                f"{name}: {parameters / 1e6:.2f} million parameters, {multiply_adds / 1e9:.3f} billion multiply-adds"
            )
    coefficients = {name: (width, depth) for name, (width, depth, _, _) in COEFFICIENTS.items()}
    arms = {"scaled here": Arm({"width_and_depth": coefficients}, here), "printed": Arm({"where": "table 2"}, printed)}
    verdict, reason = judge(here, printed, off)
    return Reproduction(
        idea="efficientnet", claim=CLAIM, scale=scale, seeds=(0,), data={}, arms=arms, comparisons=(), rule=RULE,
        verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _counted(name: str, side: int) -> tuple[int, float]:
    width, depth, _, _ = COEFFICIENTS[name]
    program = efficientnet_b0.program()
    if (width, depth) != (1.0, 1.0):
        program = hr.apply(program, CompoundScaling(width=width, depth=depth))
    return parameter_count(program), MultiplyAdds((1, 3, side, side))(program)


def differing(printed: Published, parameters: int, multiply_adds: float) -> list[str]:
    """Return which of the two counts are not the printed ones by `RULE`."""
    unit = 10.0 ** int(Decimal(printed.parameters).as_tuple().exponent)
    found = [] if abs(parameters / 1e6 - float(printed.parameters)) <= unit else ["parameters"]
    close = abs(multiply_adds / 1e9 / float(printed.multiply_adds) - 1) <= TOLERANCE
    return found if close else [*found, "multiply-adds"]


def judge(
    here: Mapping[str, tuple[float, ...]], printed: Mapping[str, tuple[float, ...]], off: Sequence[str]
) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    worst = max((key for key in here if "adds" in key), key=lambda key: abs(here[key][0] / printed[key][0] - 1))
    largest = f"largest difference of multiply-adds {here[worst][0] / printed[worst][0] - 1:+.1%}, of {worst.partition('_')[0].upper()}"
    if off:
        return "not reproduced", f"Not as printed: {', '.join(off)}; {largest}."
    return "reproduced", f"All eight networks have the printed parameters to a unit of the last digit; {largest}."


IDEA = Idea(
    slug="efficientnet",
    title="EfficientNet: compound scaling",
    paper=Paper(
        authors="Tan, Le",
        year=2019,
        title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        arxiv="1905.11946",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nmodel = hr.nn.efficientnet_b0(classes=10)\n"
        'larger = hr.apply(model, "efficientnet?width=1.2&depth=1.4")  # any other network, too'
    ),
    patch=CompoundScaling,
    reproduce=reproduce,
    provides=tuple(f"heuretic.nn:efficientnet_b{number}" for number in range(8)),
)
