"""The isolation self-test: asks, in each workspace, for what only the others have, and reports whatever is answered.

`canaries` are what is looked for, `routes` says how each address is asked, `asking` and `probes` do the asking,
`verifying` runs it and keeps the results. It tries known routes and mechanisms: finding nothing is no proof.
"""
