"""What the isolation self-test begins by itself (canaries, nightly checks), kept out of a test's jobs."""

from collections.abc import Callable, Iterator

from tenants import sweeping


def registries_without() -> Iterator[tuple[str, list[Callable[[], None]]]]:
    """The registries of `tenants.sweeping` by name, each as it would be without the self-test."""
    for name in ("_sweepers", "_public_sweepers", "_after_provisioning"):
        yield name, [registered for registered in getattr(sweeping, name) if "isolation" not in registered.__module__]
