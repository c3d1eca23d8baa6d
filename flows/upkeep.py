"""Commands for the store itself: compact, warm, export, sql, generations, rollback, gc, verify, rebuild, migrate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.options import GateOption, JsonOption, SetOption, StoreOption, described, err, out, print_json, settings_of
from flows.printing import ProgressBars, print_generations
from schemas.errors import ModelMismatch

GenerationOption = Annotated[
    int | None,
    typer.Option("--generation", metavar="N", help="An older generation; `headrace generations` lists them."),
]


def compact(
    store: StoreOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Merge everything into one plain DuckDB file with FTS and HNSW indexes.")
    ] = False,
    set_: SetOption = None,
) -> None:
    """Merge small segments. Readers and a running ingest are not disturbed.

    Ingest does it by itself; set compact=apart to do it only here, on a schedule of its own.
    """
    from tasks.compact import collect_garbage, compact_store
    from tasks.store.generation import read

    settings = settings_of(store, set_, {})
    before = read(settings.store)
    with out.status("merging segments"):
        after = compact_store(settings, full=full)
        collect_garbage(settings)
    if after.number == before.number:
        out.print(f"nothing to merge: {len(before.segments)} segments", highlight=False)
        return
    out.print(
        f"generation {after.number}: {len(before.segments)} segments merged into {len(after.segments)}, "
        f"{after.chunks:,} chunks",
        highlight=False,
    )


def warm(store: StoreOption = None, set_: SetOption = None) -> None:
    """Have the reranker read all passages now, so that the first query that finds one does not wait for it.

    For after an ingest, on the machine that answers; with warm=after-publish the ingest does it.

    What is read lies in the cache, some 24 KiB a passage, and is not read again while it is there.
    """
    from tasks.warm import warm as warm_store

    settings = settings_of(store, set_, {})
    with ProgressBars(err) as bars:
        warmed = warm_store(settings, lambda done, total: bars.report("warm", done, total))
    if warmed is None:
        raise ModelMismatch(
            f"{settings.reranker} keeps nothing of a passage that a later query could use, so none is read ahead; "
            "headrace-reranker does, and what `headrace train-reranker` makes of it"
        )
    out.print(
        f"{warmed.read:,} passages read, {warmed.known:,} were before; {warmed.bytes / 1e6:,.1f} MB "
        f"in {escape(str(settings.cache))}",
        highlight=False,
        soft_wrap=True,
    )
    if warmed.left:
        out.print(
            f"[yellow]{warmed.left:,} more do not fit in rerank_cache_mb = {settings.rerank_cache_mb}"
            + (f"; all would take some {warmed.needed_mb:,}" if warmed.needed_mb else "")
            + "[/yellow]",
            highlight=False,
            soft_wrap=True,
        )


def export(
    file: Annotated[Path, typer.Argument(help="The DuckDB file to write; it must not exist.", metavar="FILE.duckdb")],
    store: StoreOption = None,
    generation: GenerationOption = None,
    set_: SetOption = None,
) -> None:
    """Write the store as one plain DuckDB file that any DuckDB client can search.

    It has tables documents and chunks, DuckDB's FTS index (fts_main_chunks.match_bm25) and an HNSW index on
    chunks.embedding.
    """
    from tasks.store.export import export as export_store

    settings = settings_of(store, set_, {})
    with out.status(f"writing {file}"):
        size = export_store(settings.store, file, number=generation, memory_mb=settings.memory_mb)
    out.print(f"{escape(str(file))}: {size / 1e6:,.1f} MB", highlight=False, soft_wrap=True)


def sql(
    statement: Annotated[str, typer.Argument(help="SQL; views: documents, chunks, quarantine.", metavar="SQL")],
    store: StoreOption = None,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Query the live rows with SQL, in DuckDB's dialect. The store cannot be changed by it.

    Example: headrace sql "SELECT file_type, count(*) FROM documents GROUP BY ALL" --store ./index
    """
    import duckdb

    from tasks.store.sql import connect

    with connect(settings_of(store, None, {}).store, generation) as con:
        try:
            result = con.sql(statement)
            if result is None:
                return
            if as_json:
                print_json(result.to_arrow_table().to_pylist())
            else:
                print(result)
        except duckdb.Error as error:
            raise typer.BadParameter(str(error)) from None


def generations(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the generations that are kept, newest last."""
    from tasks.store.generation import current_number, kept_generations

    folder = settings_of(store, None, {}).store
    current = current_number(folder)
    kept = list(kept_generations(folder))
    if as_json:
        print_json([asdict(generation) for generation in kept])
    else:
        print_generations(out, kept, current)


def rollback(
    number: Annotated[int, typer.Argument(help="The generation to go back to.", metavar="N")],
    store: StoreOption = None,
) -> None:
    """Make the store what it was in generation N, as a new generation; nothing is lost by it.

    The next ingest brings the store up to date with its sources again.
    """
    from tasks.store.retention import rollback as roll_back
    from tasks.store.writer import committing

    folder = settings_of(store, None, {}).store
    with committing(folder):
        restored = roll_back(folder, number)
    out.print(
        f"generation {restored.number} is generation {number} again: {restored.documents:,} documents, "
        f"{restored.chunks:,} chunks",
        highlight=False,
    )


def gc(
    store: StoreOption = None,
    keep: Annotated[int | None, typer.Option(min=1, metavar="N", help=described("keep_generations"))] = None,
    keep_hours: Annotated[float | None, typer.Option(min=0, metavar="HOURS", help=described("keep_hours"))] = None,
) -> None:
    """Remove old generations and the files that only they need; what somebody reads stays.

    Ingest and compact do it by themselves.
    """
    from tasks.compact import collect_garbage

    flags = {"keep_generations": keep, "keep_hours": keep_hours}
    removed = collect_garbage(
        settings_of(store, None, {name: value for name, value in flags.items() if value is not None})
    )
    in_use = f"; in use and kept: {', '.join(map(str, removed.in_use))}" if removed.in_use else ""
    what = f"{len(removed.generations)} generations and {removed.files} files"
    out.print(f"{what} removed, {removed.bytes / 1e6:,.1f} MB{in_use}", highlight=False)


def verify(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Read everything and report damage: files that changed, rows that are missing somewhere.

    Exits with 1 where there is any.
    """
    from tasks.store.verify import verify as verify_store

    folder = settings_of(store, None, {}).store
    with ProgressBars(err) as bars:
        found = verify_store(folder, lambda done, total: bars.report("verify", done, total))
    if as_json:
        print_json([asdict(damage) for damage in found])
    elif found:
        table = Table("where", "what", "repair")
        for damage in found:
            table.add_row(escape(damage.where), escape(damage.what), escape(damage.repair))
        out.print(table)
    else:
        out.print("no damage found")
    if found:
        raise typer.Exit(1)


def rebuild(store: StoreOption = None, set_: SetOption = None) -> None:
    """Make all of DuckDB again from Parquet: after damage, or for another tokenizer, stemmer or stopwords.

    Nothing is parsed or embedded. Run `headrace verify` to see whether it is needed.
    """
    from tasks.store.generation import Analyzer
    from tasks.store.rebuild import rebuild as rebuild_store

    settings = settings_of(store, set_, {})
    with ProgressBars(err) as bars:
        rebuilt = rebuild_store(
            settings.store,
            Analyzer(settings.tokenizer, settings.stemmer, settings.stopwords),
            hnsw_min_rows=settings.hnsw_min_rows,
            memory_mb=settings.memory_mb,
            report=lambda done, total: bars.report("rebuild", done, total),
        )
    out.print(
        f"generation {rebuilt.number}: {rebuilt.documents:,} documents, {rebuilt.chunks:,} chunks rebuilt",
        highlight=False,
    )


def migrate(
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="The new embedder: a folder or a hub name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Switch without asking.")] = False,
    store: StoreOption = None,
    gate: GateOption = None,
    set_: SetOption = None,
) -> None:
    """Change a store's embedding model, or its precision, without parsing anything again.

    Queries are answered from the old vectors until the new ones are complete and you agree to switch; the old
    generation stays for `headrace rollback`. What is interrupted goes on where it stopped.

    Example: headrace migrate --model BAAI/bge-small-en-v1.5 --store ./index
    """
    from tasks.migrate import Agreement
    from tasks.migrate import migrate as migrate_store
    from tasks.models import decided
    from tasks.store.generation import read

    flags = {"embedder": model} | ({"gate": gate} if gate else {})
    settings = decided(settings_of(store, set_, flags), None)
    configured = settings_of(store, None, {})  # without what this command changes: the old vectors' own model
    embedding = {name: getattr(configured, name) for name in ("embedder", "embed_backend", "embed_precision")}
    before = read(settings.store)
    with ProgressBars(err) as bars:

        def agree(agreement: Agreement) -> bool:
            bars.pause()
            out.print(
                f"{agreement.queries} passages as queries: old and new vectors share {agreement.shared:.0%} of the ten "
                f"nearest, the nearest itself for {agreement.same_first:.0%}",
                highlight=False,
            )
            return yes or typer.confirm("Switch to the new vectors?", err=True)

        after = migrate_store(settings, settings.model_copy(update=embedding), bars.report, agree)
    if after.number == before.number:
        out.print(f"generation {after.number} stays, with vectors of {after.embedder}", highlight=False)
        return
    if measured := after.event.partition(", ")[2]:
        out.print(f"through the gate: {measured}", highlight=False)
    out.print(
        f"generation {after.number}: {after.chunks:,} chunks, vectors of {after.embedder}\n"
        f'set embedder = "{model}" in headrace.toml, or HEADRACE_EMBEDDER, for ingest and query',
        highlight=False,
    )
