"""A document's language. Older releases do not see the column and leave it empty."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: The oldest revision whose releases still work after this migration.
OLDEST_COMPATIBLE = "0001"


def upgrade() -> None:
    op.add_column("documents", sa.Column("language", sa.Text))
    op.execute(f"INSERT INTO schema_compatibility VALUES ('{revision}', '{OLDEST_COMPATIBLE}')")


def downgrade() -> None:
    op.drop_column("documents", "language")
    op.execute(f"DELETE FROM schema_compatibility WHERE revision = '{revision}'")
