"""`headrace context`: the hits of a question, packed for a prompt."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.options import (
    AfterOption,
    BeforeOption,
    GenerationOption,
    JsonOption,
    MetaOption,
    PathOption,
    RerankerOption,
    SetOption,
    SourceOption,
    StoreOption,
    TypeOption,
    err,
    filter_of,
    print_json,
    settings_of,
)
from flows.printing import print_context
from schemas.records import Form, Order


def context(
    text: Annotated[str, typer.Argument(help="The question.", metavar="QUESTION")],
    store: StoreOption = None,
    budget: Annotated[
        int,
        typer.Option(
            "--budget",
            "-b",
            min=1,
            metavar="TOKENS",
            help="Most tokens of the whole prompt, sources and markup included, as the embedder's tokenizer counts "
            "them. Another model counts otherwise, code and tables above all: leave it some room.",
        ),
    ] = 2000,
    form: Annotated[Form, typer.Option(help="How the blocks are written.")] = "markdown",
    order: Annotated[
        Order, typer.Option(help="Best hit first, or the blocks of a document together and as they stand in it.")
    ] = "best",
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits to pack, where they fit.")] = 20,
    reranker: RerankerOption = None,
    source: SourceOption = None,
    path: PathOption = None,
    file_type: TypeOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    meta: MetaOption = None,
    generation: GenerationOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pack the hits of a question into numbered blocks for a prompt, each with its source, page and headings.

    Neighbouring hits become one block, with the chunk between them where it fits; a text is there once, whichever
    documents have it. Hits are taken best first; one that does not fit is left out whole, and a smaller one after it
    may fit. No document can close its block: Markdown is fenced, XML escaped. --json has the blocks as data, and the
    prompt. What was left out is said on standard error.

    Example: headrace context "how do we rotate TLS certificates?" --budget 1500 --form xml --store ./index
    """
    from tasks.context import pack_context

    packed = pack_context(
        text,
        settings_of(store, set_, {"reranker": reranker} if reranker else {}),
        budget=budget,
        k=k,
        form=form,
        order=order,
        wanted=filter_of(source, path, file_type, after, before, meta),
        generation=generation,
    )
    if as_json:
        print_json(asdict(packed))
    else:
        print(packed.prompt, end="")
        print_context(err, packed)
