"""${message}"""

from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

#: The oldest revision whose releases still work after this migration.
OLDEST_COMPATIBLE = ${repr(up_revision)}


def upgrade() -> None:
    op.execute(f"INSERT INTO schema_compatibility VALUES ('{revision}', '{OLDEST_COMPATIBLE}')")


def downgrade() -> None:
    op.execute(f"DELETE FROM schema_compatibility WHERE revision = '{revision}'")
