"""A sandbox for code that a model wrote: confined, limited, timed, and without the answers.

`choose` finds the isolation that works here, `pool` runs programs, `probes` try to break out. What runs inside
(`zygote`, `harness` and what they import) uses the standard library only, and nothing else of this project.
"""
