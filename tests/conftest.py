"""Settings for all tests: property tests are deterministic and not timed."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "heuretic", derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck)
)
settings.load_profile("heuretic")
