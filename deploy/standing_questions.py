"""A flow downstream of Headrace, as an example: it answers the same questions from every generation that is published.

deploy/prefect.yaml has the trigger that starts it: the event headrace.generation.published of one store.
"""

from __future__ import annotations

from prefect import flow, unmapped
from prefect.artifacts import create_table_artifact

from schemas.settings import Settings
from tasks.prompt import code_span  # cells are Markdown, and names of files are not to be trusted
from tasks.query import query


@flow(name="standing-questions")
def standing_questions(questions: list[str], settings: Settings, generation: int | None = None) -> None:
    """Keep the best answer to each question as a table.

    Args:
        questions: What is asked of every generation.
        settings: Settings to use.
        generation: The generation whose event started the run; the answers come from the newest.
    """
    results = query.map(questions, k=1, settings=unmapped(settings)).result()
    rows = [
        {"question": result.query, "file": code_span(hit.path), "score": hit.score, "generation": result.generation}
        for result in results
        for hit in result.hits
    ]
    create_table_artifact(rows, key="standing-questions", description=f"since generation {generation}")
