"""The documents, and what each revision means for older releases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: The oldest revision whose releases still work after this migration.
OLDEST_COMPATIBLE = "0001"


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("characters", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("passages", sa.Integer),
        sa.Column("summary", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('queued', 'processing', 'done', 'failed')", name="documents_status"),
    )
    op.create_index("documents_newest", "documents", [sa.text("created_at DESC"), "id"])
    op.create_index(
        "documents_unfinished", "documents", ["created_at"], postgresql_where="status IN ('queued', 'processing')"
    )
    op.create_table(
        "schema_compatibility",
        sa.Column("revision", sa.Text, primary_key=True),
        sa.Column("oldest_compatible", sa.Text, nullable=False),
    )
    op.execute(f"INSERT INTO schema_compatibility VALUES ('{revision}', '{OLDEST_COMPATIBLE}')")


def downgrade() -> None:
    op.drop_table("schema_compatibility")
    op.drop_table("documents")
