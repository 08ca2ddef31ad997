"""The table of the forms in which providers take batches. A provider of another form is one more entry here.

Sources: field.md §14; OpenAI's reference of Files and Batches; openrouter.ai/docs/batch-quickstart and its reference
(a batch's requests stand in its own body, results come by pages); docs.together.ai, Batch inference, and
together-python's resources/batch.py, read in November 2026. OpenRouter's and Together's were never tried with a real
account.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from harvest.core.foreign_json import Json, as_dict

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
WINDOW: Literal["24h"] = "24h"
WINDOW_S = 86_400.0
"""How long a batch may run before it expires, in seconds."""


@dataclass(frozen=True, slots=True)
class Form:
    """Says how one kind of endpoint takes batches."""

    name: str
    hosts: tuple[str, ...] = ()
    """The ends of host names whose endpoints have this form. The first form is everybody else's."""
    purpose: str = "batch"
    """What a file is uploaded for. "": no file is uploaded, and the rows stand in the batch's own body."""
    upload_path: str = "/files"
    most_rows: int = 50_000
    most_bytes: int = 100_000_000
    """The largest file that is taken. OpenAI takes 200 MB, Groq and Together 100 MB."""
    row: Callable[[str, Mapping[str, Any]], Json] = lambda custom_id, body: {
        "custom_id": custom_id, "method": "POST", "url": CHAT, "body": body,
    }  # fmt: skip
    """Returns the row of one request."""
    job: Callable[[Json], Json] = lambda document: document
    """Returns the batch object in the answer to its creation."""
    has_metadata: bool = True
    has_pages: bool = False
    """Whether results come by pages of `/batches/{id}/results`, and not as files."""

    @property
    def uploads(self) -> bool:
        return bool(self.purpose)


def _row_without_address(custom_id: str, body: Mapping[str, Any]) -> Json:
    return {"custom_id": custom_id, "body": body}


FORMS = (
    Form("openai"),
    Form("openai", hosts=("api.openai.com", ".openai.azure.com"), most_bytes=200_000_000),
    Form("openai", hosts=(".siliconflow.cn", ".siliconflow.com"), most_rows=5_000),
    Form(
        "together",
        hosts=("api.together.xyz", "api.together.ai"),
        purpose="batch-api",
        upload_path="/files/upload",
        row=_row_without_address,
        job=lambda document: as_dict(document.get("job")) or document,
        has_metadata=False,
    ),
    Form(
        "openrouter",
        hosts=("openrouter.ai",),
        purpose="",
        most_rows=5_000,
        row=_row_without_address,
        has_pages=True,
    ),
)


def form_for(base_url: str) -> Form:
    """Returns the form of the endpoint at this address."""
    host = (urlsplit(base_url).hostname or "").lower()
    return next((form for form in FORMS if any(host.endswith(end) for end in form.hosts)), FORMS[0])
