"""What tests of whole models share."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """Shapes and types unchecked, as users run: a net has thousands of calls, checked where only shapes are traced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
