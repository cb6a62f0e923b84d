"""Settings for all tests: property tests are deterministic and not timed. And one real database server."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from postgres import Server, program_path

settings.register_profile(
    "heuretic", derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck)
)
settings.load_profile("heuretic")

#: No test downloads, and none writes into the user's cache; unpacked data sets are kept from one session to the next.
os.environ["HEURETIC_OFFLINE"] = "1"
if os.environ.get("HEURETIC_DATA"):  # for commands that are run in other folders
    os.environ["HEURETIC_DATA"] = str(Path(os.environ["HEURETIC_DATA"]).resolve())
os.environ["HEURETIC_CACHE"] = str(Path(tempfile.gettempdir(), f"heuretic-tests-{os.getuid()}"))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server for all tests of a session; each takes a database of its own."""
    if program_path("initdb") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    started = Server()
    yield started
    started.close()


@pytest.fixture
def postgres_url(server: Server) -> Iterator[str]:
    """The URL of an empty database."""
    with server.database() as url:
        yield url


@pytest.fixture
def fixed_weights() -> Iterator[None]:
    """Weights drawn from one seed, which leaves torch's generator as it was; and one thread, since tests share the cores."""
    import torch  # what does without it is tested without it, too

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)
