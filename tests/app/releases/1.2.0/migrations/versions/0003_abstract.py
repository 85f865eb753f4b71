"""The column summary becomes abstract: no data is lost either way, but older releases do not find it."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: The oldest revision whose releases still work after this migration.
OLDEST_COMPATIBLE = "0003"


def upgrade() -> None:
    op.alter_column("documents", "summary", new_column_name="abstract")
    op.execute(f"INSERT INTO schema_compatibility VALUES ('{revision}', '{OLDEST_COMPATIBLE}')")


def downgrade() -> None:
    op.alter_column("documents", "abstract", new_column_name="summary")
    op.execute(f"DELETE FROM schema_compatibility WHERE revision = '{revision}'")
