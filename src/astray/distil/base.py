"""The base of a distilled judge: a local model, known by its content."""

from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.subjects.identity import adapter_identity, base_identity, digest_of, template_traits
from astray.subjects.locate import Located, settle


def base_of(name: str) -> Located:
    """Find a base by name.

    Raises:
        SubjectNotFoundError: it is no model whose weights are here.
        ConfigurationError: it is more than weights.
    """
    try:
        located = settle(name)
    except SubjectNotFoundError as error:
        raise SubjectNotFoundError(
            f"The base of a distilled judge is read inside, so its weights have to be on this machine, and {name!r} is "
            f"no such model: {error}"
        ) from error
    if located.spec.system is not None or located.spec.interventions:
        raise ConfigurationError(
            f"{name!r} brings a system prompt or steering, which would act on every answer it judges. Name its model, or "
            "model and adapter, alone."
        )
    return located


def content_of(located: Located) -> str:
    """Return a hash over the content of a base, the same on every machine and for every number format."""
    spec = located.spec
    return digest_of(
        {
            "base": base_identity(located.base),
            "adapter": adapter_identity(spec.adapter) if spec.adapter else None,
            "scale": spec.scale,
            **template_traits(located.base),
        }
    )
