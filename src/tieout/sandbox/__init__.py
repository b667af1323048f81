"""Where code that a model wrote runs: confined, limited, timed, and without the answers.

`isolation` says how strong it can be here, `pool` runs programs, `probes` try to break out. What runs inside
(`zygote`, `harness` and what they import) uses the standard library only, and nothing else of this project.
"""
