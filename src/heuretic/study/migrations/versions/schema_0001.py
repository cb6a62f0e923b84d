"""The first tables: studies, runs, spaces, environments, trials. Made before there were migrations."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing to do: there is no store of a version before this one."""
