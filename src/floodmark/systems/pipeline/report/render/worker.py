"""A process that sets type: reads a job per line, does it, answers with a line. Run by `typesetter.py`, as a file of its own.

It imports the typesetter and the standard library alone (none of floodmark), so that it starts fast and holds little. A process, because
the typesetter keeps what it has laid out (35 MB for each 1,000 rows, measured), cannot be interrupted, and would hold up the event loop.

Jobs, as JSON: {"do": "compile", "main": PATH, "inputs": {NAME: PATH}, "out": [PATH with {page}], "format", "ppi", "attachment"} and
{"do": "join", "sections": [[PATH, PAGES]], "overlays": [PATH], "out", "title", "author",
"outline": [[TEXT, PAGE]]}. Answers: {"ok": {...}} or {"error": {...}}.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

AROUND = "/FloodmarkAround"
_AGEING = 3  # empty documents compiled after each real one


def compile_document(job: dict[str, Any], fonts: Any) -> dict[str, Any]:
    """Compile one document, write its pages or its file, and read back what it has attached to itself."""
    import typst

    files = {"main.typ": Path(job["main"]).read_bytes()} | {name: Path(path).read_bytes() for name, path in job["inputs"].items()}
    kind = job["format"]
    # The stubs know of one input; a mapping of names to contents is what keeps the disk out of the template's reach.
    result, warnings = typst.compile_with_warnings(files, format=kind, ppi=job["ppi"], font_paths=fonts)
    missing = [warning.message for warning in warnings if warning.message.startswith("unknown font family")]
    if missing and job["strict_fonts"]:
        raise LookupError(missing[0])
    pages = result if isinstance(result, list) else [result]
    written = []
    for number, content in enumerate(pages, start=1):
        path = Path(job["out"])
        path = path.with_name(path.name.replace("{page}", str(number)))
        path.write_bytes(content)
        written.append(str(path))
    answer: dict[str, Any] = {"files": written, "bytes": sum(map(len, pages))}
    if kind == "pdf":
        import pikepdf

        with pikepdf.open(written[0]) as pdf:
            answer["pages"] = len(pdf.pages)
            if job["attachment"]:
                answer["attachment"] = json.loads(pdf.attachments[job["attachment"]].get_file().read_bytes())
    else:
        answer["pages"] = len(pages)
    return answer


def join(job: dict[str, Any]) -> dict[str, Any]:
    """Put sections one after the other, lay over each page what belongs around it, and write one PDF."""
    import pikepdf

    out = pikepdf.new()
    entries: list[tuple[str, int, float]] = []  # of the outline: text, page, how far up the page
    with contextlib.ExitStack() as held:  # a page is copied when it is saved: its source has to stay open until then
        for path, count in job["sections"]:
            section = held.enter_context(pikepdf.open(path))
            entries += outline_of(section, len(out.pages))
            out.pages.extend(section.pages[:count])
        number = 0
        for path in job["overlays"]:
            overlay = held.enter_context(pikepdf.open(path))
            for around in overlay.pages:
                page = out.pages[number]
                around_it = out.copy_foreign(around.as_form_xobject())
                name = page.add_resource(
                    around_it, pikepdf.Name.XObject, pikepdf.Name(AROUND)
                )  # named: else by chance, and no two files were the same
                page.contents_add(b"q\n", prepend=True)
                page.contents_add(f"\nQ q {name} Do Q\n".encode())
                for tagged in ("/StructParents", "/Tabs"):  # the sections' tags are not joined
                    if tagged in page.obj:
                        del page.obj[tagged]
                number += 1
        with out.open_metadata(set_pikepdf_as_editor=False) as metadata:
            metadata["dc:title"] = job["title"]
            if job["author"]:
                metadata["dc:creator"] = [job["author"]]
            metadata["xmp:CreatorTool"] = "floodmark"
        out.docinfo["/Title"] = job["title"]
        if job["author"]:
            out.docinfo["/Author"] = job["author"]
        entries += [(text, page, float(out.pages[page].mediabox[3])) for text, page in job["outline"]]
        if entries:
            with out.open_outline() as outline:
                outline.root.extend(
                    pikepdf.OutlineItem(text, page, pikepdf.PageLocation.XYZ, left=0, top=top) for text, page, top in entries
                )
        out.Root.Lang = pikepdf.String("en")
        out.Root.ViewerPreferences = pikepdf.Dictionary(DisplayDocTitle=True)
        pages = len(out.pages)
        out.save(job["out"], object_stream_mode=pikepdf.ObjectStreamMode.generate, deterministic_id=True)
    return {"pages": pages, "bytes": Path(job["out"]).stat().st_size}


def outline_of(section: Any, first: int) -> list[tuple[str, int, float]]:
    """The outline of one section whose first page will be number `first`: text, page, how far up the page."""
    if "/Outlines" not in section.Root:
        return []
    numbers = {page.obj.objgen: first + number for number, page in enumerate(section.pages)}
    with section.open_outline() as outline:
        return [
            (str(item.title), numbers[item.destination[0].objgen], float(item.destination[3]))
            for item in outline.root
            if item.destination is not None
        ]


def failure(exc: BaseException) -> dict[str, Any]:
    """Describe an error so that the other side can raise its own."""
    message = getattr(exc, "message", None) or str(exc) or type(exc).__name__
    by_typesetter = type(exc).__name__ == "TypstError" or isinstance(exc, LookupError)
    return {
        "typeset": by_typesetter,
        "message": message if by_typesetter else f"{type(exc).__name__}: {message}",
        "hints": list(getattr(exc, "hints", ())),
        "trace": list(getattr(exc, "trace", ())),
    }


def peak_rss_bytes() -> int:
    """The most resident memory since this program was loaded (`ru_maxrss` begins with what the parent had when it forked)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@functools.cache
def the_fonts() -> Any:
    """Those of the system too, which serve letters that the report's own font lacks; looked for once, and never by a process that joins."""
    import typst

    return typst.Fonts(include_system_fonts=True)


def age() -> None:
    """Have the typesetter forget what it has not used in ten compilations.

    Aged by empty ones, it stays at 200 MB where it would take 500 MB (sections of 1,000 rows, measured), and still knows the words that
    come again and again.
    """
    import typst

    for _ in range(_AGEING):
        typst.compile(b"", font_paths=the_fonts())


def main() -> None:
    """Answer jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": compile_document(job, the_fonts()) if job["do"] == "compile" else join(job)}
        except Exception as exc:  # whatever it is, the other side is waiting for an answer
            answer = {"error": failure(exc)}
        answer["rss_bytes_peak"] = peak_rss_bytes()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if job["do"] == "compile":
            age()


if __name__ == "__main__":
    main()
