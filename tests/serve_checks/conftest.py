import pytest
from made_adapters import made


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A sound adapter's folder; copy it before you change it."""
    return made(tmp_path_factory.mktemp("adapters") / "good")
