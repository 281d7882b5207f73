"""Command that shows a finished slide in a browser: view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsi_engine.cli import console


def view(
    result: Annotated[Path, typer.Argument(help="OUT/<slide>, as `run` or `measure` wrote it.")],
    slide: Annotated[
        Path | None, typer.Option(help="Where the slide is, if it has moved since the run.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the page and its data into this new folder, and serve nothing."),
    ] = None,
) -> None:
    """Look at a finished slide and its nuclei in a browser, on this machine alone."""
    import webbrowser

    from wsi_engine.view.looking import export_view, served

    if export is not None:
        count = export_view(result, export, slide)
        console.print_facts({"folder": export, "files": f"{count:,}"})
        return
    try:
        with served(result, slide) as server:
            typer.echo(server.address)
            console.print_note("Ctrl-C ends it")
            if browser:
                webbrowser.open(server.address)
            server.serve_forever()
    except KeyboardInterrupt:
        console.print_note("ended")
