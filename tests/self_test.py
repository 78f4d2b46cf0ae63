"""What the self-tests begin by themselves (canaries, nightly checks and looks for plaintext), kept out of a test's jobs."""

from collections.abc import Callable, Iterator

from tenants import sweeping

OF_SELF_TESTS = ("workspace.isolation", "workspace.plaintext_map")


def registries_without() -> Iterator[tuple[str, list[Callable[[], None]]]]:
    """The registries of `tenants.sweeping` by name, each as it would be without the self-tests."""
    for name in ("_sweepers", "_public_sweepers", "_after_provisioning"):
        yield name, [each for each in getattr(sweeping, name) if not each.__module__.startswith(OF_SELF_TESTS)]
