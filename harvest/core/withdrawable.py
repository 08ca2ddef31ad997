"""Names what can be withdrawn from datasets and students. It loads nothing, because `--help` lists it."""

WITHDRAWABLE = {
    "source": ("source",),
    "licence": ("licence",),
    "teacher": ("teacher", "served_model"),
    "provider": ("served_by",),
    "public": ("public",),
    "question": ("question_id",),
    "attempt": ("attempt", "id"),
    "response": ("response_id", "first_response_id"),
}
"""What can be withdrawn, by the word that a user writes, with the fields of a manifest's row that the word means."""
