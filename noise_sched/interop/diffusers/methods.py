"""Every class of diffusers 0.42 that is another method than this library's, and what comes nearest."""

from collections.abc import Iterable

from noise_sched.messages import hint

_TOKENS = (
    "it draws discrete tokens, and this library diffuses numbers; nothing here stands in for it"
)
_CONSISTENCY = (
    "it samples a consistency model, a network distilled to jump to clean data in a step or two"
)

# Class -> (what it is, what to read or write instead).
OTHER_METHODS: dict[str, tuple[str, str]] = {
    "AmusedScheduler": (f"masked tokens: {_TOKENS}", ""),
    "VQDiffusionScheduler": (f"masked tokens: {_TOKENS}", ""),
    "BlockRefinementScheduler": (f"masked tokens, block by block: {_TOKENS}", ""),
    "EntropyBoundScheduler": (f"masked tokens by their entropy: {_TOKENS}", ""),
    "DiscreteDDIMScheduler": (f"DDIM of discrete states: {_TOKENS}", ""),
    "CMStochasticIterativeScheduler": (
        _CONSISTENCY,
        "EDMEulerScheduler with its sigma_min, sigma_max and rho has the same levels, for the network "
        "that it was distilled from",
    ),
    "ConsistencyDecoderScheduler": (
        _CONSISTENCY + " (a decoder of latents)",
        "nothing here stands in for it",
    ),
    "SCMScheduler": (
        _CONSISTENCY + " (TrigFlow)",
        "CosineDPMSolverMultistepScheduler has the same levels, for the network that it was distilled "
        "from",
    ),
    "RePaintScheduler": (
        "it paints into a picture, and steps back up to harmonize the two parts",
        "DDPMScheduler with the same betas draws whole pictures",
    ),
    "FlowMapEulerDiscreteScheduler": (
        "its network is distilled, and told where a step ends as well as where it starts",
        "FlowMatchEulerDiscreteScheduler with its shift has the same steps, for the network that it "
        "was distilled from",
    ),
    "PiflowScheduler": (
        "its network is distilled to predict a policy, which is followed without calling it again",
        "FlowMatchEulerDiscreteScheduler with its shift, for the network that it was distilled from",
    ),
    "HeliosScheduler": (
        "it changes the resolution between its stages",
        "UniPCMultistepScheduler with use_flow_sigmas is what it does within one stage",
    ),
    "HeliosDMDScheduler": (
        "it changes the resolution between its stages, for a network distilled to few steps",
        "FlowMatchEulerDiscreteScheduler is what it does within one stage",
    ),
    "LTXEulerAncestralRFScheduler": (
        "it adds fresh noise by a rule of its own, sigma_next^2 / sigma in the flow's time, which is "
        "not the posterior's",
        "FlowMatchEulerDiscreteScheduler is the same without fresh noise",
    ),
    "RFD4ProteinaScheduler": (
        "it rescales the score while it integrates the backbone and the latents of a protein",
        "FlowMatchEulerDiscreteScheduler is the plain flow",
    ),
}


def refusal(name: str, known: Iterable[str]) -> str:
    """Why the class `name` is not read, and what is nearest to it."""
    known = tuple(known)
    if name in OTHER_METHODS:
        what, instead = OTHER_METHODS[name]
        return f"cannot read the class {name!r}: {what}." + (
            f" Nearest: {instead}." if instead else ""
        )
    # All names end alike: one is a slip of the pen, such as DDIMSheduler, only where it is near indeed.
    near = hint(name, [*known, *OTHER_METHODS], cutoff=0.85)
    near = near or "It is no scheduler of diffusers 0.42. "
    return f"cannot read the class {name!r}. {near}Known: {', '.join(known)}."
