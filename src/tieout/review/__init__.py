"""The page that a reviewer of a run reads: `report.html`, one file, made from the run folder and nothing else.

`stored` reads the folder, each section is a module with `section(run) -> Markup`, `document` puts them together.
"""
