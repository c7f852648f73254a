"""Sweeps: the cells of a grid, trained and judged, many as one program.

cells, record      what a sweep file writes -> configs; a sweep's folder
groups, families   which cells one program can train; schedules of several families in one
programs, choice   that program; which way of running it is fastest and fits
streams, cell_run  the batches of many cells; one cell's workdir
stack              cells trained together
judged, shared     a trained cell -> figures; compiled samplers that cells share
here               all of it, in this process
display            progress
"""
